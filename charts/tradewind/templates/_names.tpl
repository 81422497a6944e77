{{/* Labels of every object; call with (dict "root" $ "part" "operator"). */}}
{{- define "tradewind.labels" -}}
app.kubernetes.io/name: tradewind
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{/* What selects the pods of a part. */}}
{{- define "tradewind.selector" -}}
app.kubernetes.io/name: tradewind
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{/* Names of cluster-wide objects hold the namespace, so that two installations do not meet. */}}
{{- define "tradewind.clusterName" -}}
{{ printf "tradewind-%s-%s" .root.Release.Namespace .part | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* A container under pod security `restricted`, with nothing to write but its volumes. */}}
{{- define "tradewind.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "tradewind.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "tradewind.consumes" -}}
{{- if has .Values.role (list "consumer" "both") }}true{{ end -}}
{{- end }}

{{- define "tradewind.provides" -}}
{{- if has .Values.role (list "provider" "both") }}true{{ end -}}
{{- end }}

{{/* By IP address, since job pods have no DNS: the kubelet puts the Service's address in. */}}
{{- define "tradewind.relayUrl" -}}
http://$(TRADEWIND_RELAY_SERVICE_HOST):8080
{{- end }}
