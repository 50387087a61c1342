{{- define "streamgauge.name" -}}
{{- $name := .Values.nameOverride | default "streamgauge" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else }}{{ printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "streamgauge.selector" -}}
app.kubernetes.io/name: {{ .Values.nameOverride | default "streamgauge" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "streamgauge.labels" -}}
{{ include "streamgauge.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "streamgauge.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* The port of an address of config.web, or the second argument where it has none. */}}
{{- define "streamgauge.port" -}}
{{- $listen := index . 0 -}}
{{- if not $listen }}{{ index . 1 -}}
{{- else }}{{ required (printf "config.web: %q does not end in a port number" (toString $listen)) (regexFind "[0-9]+$" (toString $listen)) }}{{ end }}
{{- end }}

{{/* What ports, probes and the ServiceMonitor follow, as YAML: port, probePort (empty: the same), scheme, users. */}}
{{- define "streamgauge.web" -}}
{{- $web := .Values.config.web | default dict -}}
{{- $tls := $web.tls_server_config | default dict -}}
{{- if and (hasPrefix "Require" ($tls.client_auth_type | default "")) (not $web.probe_listen) }}
{{- fail "config.web.tls_server_config requires client certificates, which the kubelet does not have: set config.web.probe_listen, such as \"[::]:10122\"" }}
{{- end }}
port: {{ include "streamgauge.port" (list $web.listen 10121) }}
probePort: {{ include "streamgauge.port" (list $web.probe_listen "") }}
scheme: {{ if $tls }}https{{ else }}http{{ end }}
users: {{ not (empty $web.basic_auth_users) }}
{{- end }}

{{/* A probe: the path, and the values that are merged over it. */}}
{{- define "streamgauge.probe" -}}
{{- $web := include "streamgauge.web" (index . 0) | fromYaml -}}
{{- $get := dict "path" (index . 1) "port" "metrics" "scheme" (upper $web.scheme) -}}
{{- if $web.probePort }}{{ $get = dict "path" (index . 1) "port" "probes" }}{{ end -}}
{{- mergeOverwrite (dict "httpGet" $get) (index . 2) | toYaml }}
{{- end }}

{{/* The fields of a container that runs streamgauge, in the pod and in the test. */}}
{{- define "streamgauge.container" -}}
image: {{ include "streamgauge.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
resources: {{- toYaml .Values.resources | nindent 2 }}
securityContext: {{- toYaml .Values.securityContext | nindent 2 }}
{{- with .Values.envFrom }}
envFrom: {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - {name: config, mountPath: /etc/streamgauge, readOnly: true}
  - {name: state, mountPath: /var/lib/streamgauge}
  {{- if .Values.existingSecret }}
  - {name: secrets, mountPath: /run/secrets/streamgauge, readOnly: true}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* The volumes, without the one for the state. */}}
{{- define "streamgauge.volumes" -}}
- name: config
  {{- if .Values.existingConfigSecret }}
  secret: {secretName: {{ .Values.existingConfigSecret }}, defaultMode: 288}
  {{- else }}
  configMap: {name: {{ .Values.existingConfigMap | default (include "streamgauge.name" .) }}}
  {{- end }}
{{- with .Values.existingSecret }}
- name: secrets
  secret: {secretName: {{ . }}, defaultMode: 288}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The fields of a pod that its test has too. */}}
{{- define "streamgauge.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- if or .Values.serviceAccount.create .Values.serviceAccount.name }}
serviceAccountName: {{ .Values.serviceAccount.name | default (include "streamgauge.name" .) }}
{{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext: {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
