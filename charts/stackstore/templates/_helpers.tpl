{{- define "stackstore.name" -}}
stackstore
{{- end }}

{{- /* What the release's objects are named; at most 52 characters, so that a suffix fits. */}}
{{- define "stackstore.fullname" -}}
{{- if contains "stackstore" .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-stackstore" .Release.Name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "stackstore.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "stackstore.fullname" .) }}
{{- end }}

{{- /* What never changes in a release, so that selectors may use it. */}}
{{- define "stackstore.selectorLabels" -}}
app.kubernetes.io/name: stackstore
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "stackstore.labels" -}}
{{ include "stackstore.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "stackstore.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{- /*
The rules of files/rules.yaml that a Role can give: those about namespaced objects, and the right to
get the Role's own namespace.
*/}}
{{- define "stackstore.namespacedRules" -}}
{{- $rules := list }}
{{- range .Files.Get "files/rules.yaml" | fromYamlArray }}
{{- $resources := without .resources "customresourcedefinitions" "namespaces" "nodes" }}
{{- if $resources }}
{{- $rules = append $rules (merge (dict "resources" $resources) .) }}
{{- end }}
{{- if and (has "namespaces" .resources) (has "get" .verbs) }}
{{- $rules = append $rules (dict "apiGroups" .apiGroups "resources" (list "namespaces") "verbs" (list "get")) }}
{{- end }}
{{- end }}
{{- toYaml $rules }}
{{- end }}

{{- define "stackstore.dnsPolicy" -}}
{{- .Values.dnsPolicy | default (ternary "ClusterFirstWithHostNet" "ClusterFirst" .Values.hostNetwork) }}
{{- end }}

{{- /* Restricted pod security, and nothing written but to memory. */}}
{{- define "stackstore.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.runAsUser }}
runAsUser: {{ . }}
runAsGroup: {{ . }}
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "stackstore.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
