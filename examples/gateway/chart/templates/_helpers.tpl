{{- define "crestline.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "crestline.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Labels that choose pods; called with the root and the component. */}}
{{- define "crestline.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "crestline.labels" -}}
{{ include "crestline.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{/* What every pod may do: nothing that it does not need. */}}
{{- define "crestline.pod" -}}
automountServiceAccountToken: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "crestline.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/*
Copies the Secret to where only the user of the pod can read it, as programs demand of keys, and makes the home, which
others must not be able to write to as they are to a fresh emptyDir.
*/}}
{{- define "crestline.prepare" -}}
- name: prepare
  image: {{ include "crestline.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: [sh, -c, "umask 077 && mkdir -p /state/home /state/config && cp /secret/* /state/config/"]
  securityContext:
    {{- include "crestline.confined" . | nindent 4 }}
  volumeMounts:
    - {name: state, mountPath: /state}
    - {name: secret, mountPath: /secret, readOnly: true}
{{- end }}

{{- define "crestline.volumes" -}}
- name: secret
  secret: {secretName: {{ .Values.secret.name }}}
- name: state # what must outlast a pod is in the database
  emptyDir: {}
- name: tmp
  emptyDir: {}
{{- end }}
