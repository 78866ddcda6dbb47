{{- define "headgate.name" -}}
{{- default .Chart.Name .Values.nameOverride -}}
{{- end -}}

{{/*
What the names of all objects begin with. A StatefulSet's name has 52 bytes at
most, because its pods carry it with a hash in a label; "-gateway" is part of it.
*/}}
{{- define "headgate.fullname" -}}
{{- $name := include "headgate.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 44 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 44 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The Secret with the keys of the bus, which the controller makes. */}}
{{- define "headgate.busSecret" -}}
{{- include "headgate.fullname" . }}-bus
{{- end -}}

{{/* Of a component: (dict "root" $ "component" "gateway"). They never change. */}}
{{- define "headgate.selectorLabels" -}}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/name: {{ include "headgate.name" .root }}
{{- end -}}

{{/* Of an object; the component may be missing. The chart's own labels win over the user's. */}}
{{- define "headgate.labels" -}}
{{- $own := dict
  "app.kubernetes.io/instance" .root.Release.Name
  "app.kubernetes.io/managed-by" .root.Release.Service
  "app.kubernetes.io/name" (include "headgate.name" .root)
  "app.kubernetes.io/part-of" "headgate"
  "app.kubernetes.io/version" (.root.Chart.AppVersion | replace "+" "_")
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
-}}
{{- with .component -}}
{{- $_ := set $own "app.kubernetes.io/component" . -}}
{{- end -}}
{{- merge $own (.extra | default dict) .root.Values.commonLabels | toYaml -}}
{{- end -}}

{{/* Of a pod: nothing in them changes with the version of the chart, so that a new one alone restarts nothing. */}}
{{- define "headgate.podLabels" -}}
{{- $own := include "headgate.selectorLabels" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "headgate" -}}
{{- merge $own (index .root.Values .component).podLabels .root.Values.commonLabels | toYaml -}}
{{- end -}}

{{- define "headgate.image" -}}
{{- $image := .Values.image -}}
{{- $tag := $image.tag -}}
{{- if not (or $tag $image.digest) -}}
{{- $tag = .Chart.AppVersion -}}
{{- end -}}
{{- $image.repository }}{{ with $tag }}:{{ . }}{{ end }}{{ with $image.digest }}@{{ . }}{{ end }}
{{- end -}}

{{- define "headgate.serviceAccountName" -}}
{{- $account := (index .root.Values .component).serviceAccount -}}
{{- if $account.name -}}
{{- $account.name -}}
{{- else if $account.create -}}
{{- include "headgate.fullname" .root }}-{{ .component }}
{{- else -}}
{{- fail (printf "%s.serviceAccount.name: name the ServiceAccount, since %s.serviceAccount.create is false" .component .component) -}}
{{- end -}}
{{- end -}}

{{/* How webhooks come in: the scheme, which is the name of the ports, too. */}}
{{- define "headgate.scheme" -}}
{{- ternary "https" "http" (not (empty .Values.gateway.tls.secretName)) -}}
{{- end -}}

{{- define "headgate.containerPort" -}}
{{- ternary 8443 8080 (not (empty .Values.gateway.tls.secretName)) -}}
{{- end -}}

{{- define "headgate.servicePort" -}}
{{- .Values.gateway.service.port | default (ternary 443 80 (not (empty .Values.gateway.tls.secretName))) -}}
{{- end -}}

{{- define "headgate.publicURL" -}}
{{- if .Values.publicURL -}}
{{- .Values.publicURL -}}
{{- else -}}
{{- $scheme := include "headgate.scheme" . -}}
{{- $port := include "headgate.servicePort" . | int -}}
{{ $scheme }}://{{ include "headgate.fullname" . }}-gateway.{{ .Release.Namespace }}.svc{{ if ne $port (ternary 443 80 (eq $scheme "https")) }}:{{ $port }}{{ end }}
{{- end -}}
{{- end -}}

{{/* Hosts to route from outside: (dict "root" $ "hosts" LIST "field" "ingress.hosts"), as a JSON list. */}}
{{- define "headgate.hosts" -}}
{{- if .hosts -}}
{{- toJson .hosts -}}
{{- else if .root.Values.publicURL -}}
{{- list (urlParse .root.Values.publicURL).hostname | toJson -}}
{{- else -}}
{{- fail (printf "%s: name the hosts, or set publicURL" .field) -}}
{{- end -}}
{{- end -}}

{{/* Not empty when the bus is a NATS server of one's own. */}}
{{- define "headgate.externalBus" -}}
{{- .Values.bus.external.url -}}
{{- end -}}

{{- define "headgate.busCAVolume" -}}
- name: bus-ca
  secret:
    secretName: {{ .Values.bus.external.caSecretName | quote }}
    items:
    - {key: ca.crt, path: ca.crt}
{{- end -}}

{{/* Connections to it. */}}
{{- define "headgate.externalBusEgress" -}}
# The NATS server.
- ports:
  {{- range splitList "," (include "headgate.externalBus" .) }}
  - {port: {{ regexFind "[0-9]+$" . }}}
  {{- end }}
  {{- with .Values.networkPolicy.busTo }}
  to: {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* How many gateways: one, or the members of a cluster; any number that have no bus. */}}
{{- define "headgate.gatewayReplicas" -}}
{{- $gateway := .Values.gateway -}}
{{- $replicas := int $gateway.replicas -}}
{{- if include "headgate.externalBus" . -}}
{{- $replicas -}}
{{- else -}}
{{- if not (has $replicas (list 1 3 5)) -}}
{{- fail (printf "gateway.replicas: %d is none of 1, 3 and 5: most of the gateways must be up, so two need both, and an even number survives no more than the odd one below it" $replicas) -}}
{{- end -}}
{{- if and (gt $replicas 1) (not $gateway.persistence.enabled) -}}
{{- fail "gateway.persistence.enabled: several gateways keep what they have accepted on their volumes; without, a rolling update would lose it" -}}
{{- end -}}
{{- if and (gt $replicas 1) $gateway.persistence.existingClaim -}}
{{- fail "gateway.persistence.existingClaim: several gateways need a volume each; leave it empty" -}}
{{- end -}}
{{- $existing := lookup "apps/v1" "StatefulSet" .Release.Namespace (printf "%s-gateway" (include "headgate.fullname" .)) -}}
{{- if and $existing (gt (dig "spec" "replicas" 1 $existing | int) $replicas) -}}
{{- fail (printf "gateway.replicas: from %d to %d would lose what only the other gateways have; the chart's README says how to go back" (dig "spec" "replicas" 1 $existing | int) $replicas) -}}
{{- end -}}
{{- $replicas -}}
{{- end -}}
{{- end -}}

{{/* Not empty when the gateways form a cluster. */}}
{{- define "headgate.clustered" -}}
{{- if and (gt (include "headgate.gatewayReplicas" . | int) 1) (not (include "headgate.externalBus" .)) -}}
true
{{- end -}}
{{- end -}}

{{/* Where the members of the cluster of gateways reach each other. */}}
{{- define "headgate.clusterRoutes" -}}
{{- $gateway := printf "%s-gateway" (include "headgate.fullname" .) -}}
{{- $namespace := .Release.Namespace -}}
{{- $routes := list -}}
{{- range until (include "headgate.gatewayReplicas" . | int) -}}
{{- $routes = append $routes (printf "%s-%d.%s-bus.%s.svc:6222" $gateway . $gateway $namespace) -}}
{{- end -}}
{{- join "," $routes -}}
{{- end -}}

{{/* Bytes of the gateway's store: half of the volume, because what was removed leaves holes in its files, and JetStream does not recover from a full disk without a restart. */}}
{{- define "headgate.storeMaxSize" -}}
{{- $size := .Values.gateway.persistence.size -}}
{{- $unit := regexFind "[MGT]i$" $size -}}
{{- $bytes := dict "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $store := div (mul (trimSuffix $unit $size | int64) (get $bytes $unit)) 2 -}}
{{- if lt $store 134217728 -}}
{{- fail (printf "gateway.persistence.size: %s is below the 256Mi that the store needs" $size) -}}
{{- end -}}
{{- $store -}}
{{- end -}}

{{/* What decides where a pod runs. */}}
{{- define "headgate.scheduling" -}}
{{- $c := index .root.Values .component -}}
{{- with $c.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with $c.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $c.tolerations }}
tolerations: {{- toYaml . | nindent 0 }}
{{- end }}
{{- with $c.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $c.topologySpreadConstraints }}
topologySpreadConstraints: {{- toYaml . | nindent 0 }}
{{- else }}
{{- if and (eq .component "gateway") (gt (include "headgate.gatewayReplicas" .root | int) 1) }}
# A node, and a zone, that fails should take one member of the cluster along.
topologySpreadConstraints:
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "headgate.selectorLabels" $ | nindent 6 }}
{{- end }}
{{- end }}
{{- end }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 0 }}
{{- end }}
{{- end -}}

{{- define "headgate.serviceAccount" -}}
{{- $account := (index .root.Values .component).serviceAccount -}}
{{- if $account.create }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "headgate.serviceAccountName" . }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "headgate.labels" . | nindent 4 }}
  {{- with $account.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "headgate.podDisruptionBudget" -}}
{{- $budget := (index .root.Values .component).podDisruptionBudget -}}
{{- $several := and (eq .component "gateway") (gt (include "headgate.gatewayReplicas" .root | int) 1) }}
{{- if ternary $several $budget.enabled (kindIs "invalid" $budget.enabled) }}
{{- $min := $budget.minAvailable }}
{{- $max := $budget.maxUnavailable }}
{{- if not (or (kindIs "invalid" $min) (kindIs "invalid" $max)) }}
{{- fail (printf "%s.podDisruptionBudget: set minAvailable or maxUnavailable, not both" .component) }}
{{- end }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "headgate.fullname" .root }}-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "headgate.labels" . | nindent 4 }}
spec:
  {{- if not (kindIs "invalid" $min) }}
  minAvailable: {{ $min }}
  {{- else }}
  maxUnavailable: {{ if kindIs "invalid" $max }}1{{ else }}{{ $max }}{{ end }}
  {{- end }}
  selector:
    matchLabels: {{- include "headgate.selectorLabels" . | nindent 6 }}
{{- end }}
{{- end -}}

{{/* The Service to scrape, and its ServiceMonitor: (dict "root" $ "component" "gateway" "targetPort" "admin"). */}}
{{- define "headgate.metrics" -}}
{{- $monitor := .root.Values.metrics.serviceMonitor -}}
{{- if .root.Values.metrics.enabled }}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "headgate.fullname" .root }}-{{ .component }}-metrics
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "headgate.labels" (merge (dict "extra" (dict "headgate.dev/metrics" "true")) .) | nindent 4 }}
spec:
  clusterIP: None
  # One that is not ready has the more to tell.
  publishNotReadyAddresses: true
  selector: {{- include "headgate.selectorLabels" . | nindent 4 }}
  ports:
  - {name: metrics, port: 80, targetPort: {{ .targetPort }}}
{{- if $monitor.enabled }}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ include "headgate.fullname" .root }}-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "headgate.labels" (merge (dict "extra" $monitor.labels) .) | nindent 4 }}
  {{- with $monitor.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  selector:
    matchLabels:
      headgate.dev/metrics: "true"
      {{- include "headgate.selectorLabels" . | nindent 6 }}
  namespaceSelector:
    matchNames: [{{ .root.Release.Namespace }}]
  endpoints:
  - port: metrics
    path: /metrics
    interval: {{ $monitor.interval }}
    scrapeTimeout: {{ $monitor.scrapeTimeout }}
    {{- with $monitor.relabelings }}
    relabelings: {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with $monitor.metricRelabelings }}
    metricRelabelings: {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "headgate.dnsEgress" -}}
# Names. To anywhere, because a node's own cache is no pod.
- ports:
  {{- range .Values.networkPolicy.dnsPorts }}
  - {protocol: UDP, port: {{ . }}}
  - {protocol: TCP, port: {{ . }}}
  {{- end }}
{{- end -}}
