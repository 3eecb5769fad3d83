{{- /* What the schema can't say of values that contradict each other. */}}
{{- define "stackstore.checks" -}}
{{- if and (gt (int .Values.replicas) 1) (eq (int .Values.leaseSeconds) 0) }}
{{- fail "leaseSeconds is 0, so that every operator acts, but replicas is not 1: give `--set replicas=1`, or a lease such as `--set leaseSeconds=15`" }}
{{- end }}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) }}
{{- fail "serviceAccount.create is false: name the one to use in serviceAccount.name" }}
{{- end }}
{{- if and .Values.crds.enabled .Values.crds.hooks (not (semverCompare ">=4.0.0-0" .Capabilities.HelmVersion.Version)) }}
{{- fail (printf "This is helm %s. Helm applies CRDs that are there already since version 4: use that, or `--set crds.enabled=false` after `kubectl apply --server-side --field-manager=helm -f crds/`" .Capabilities.HelmVersion.Version) }}
{{- end }}
{{- end }}
