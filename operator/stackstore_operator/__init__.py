"""The operator: renders named storage backends into one Secret and one run config per stack."""
