# Copyright The Headgate Authors.
# SPDX-License-Identifier: Apache-2.0

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# Where the tools are cached. Each set lives in a folder named after everything
# that decides its bytes (pinned modules, Go version, platform), so that clones
# and CI runs may share one HEADGATE_BIN and a bump never meets a stale binary.
HEADGATE_BIN ?= $(CURDIR)/bin
override HEADGATE_BIN := $(abspath $(HEADGATE_BIN))
# The image that docker-build makes and deploy runs.
IMG ?= headgate:dev
# docker, podman or buildah.
CONTAINER_TOOL ?= docker
# The kubectl that install and deploy use: yours, with your kubeconfig.
KUBECTL ?= kubectl
# How long each fuzz target runs.
FUZZ_TIME ?= 10s
# Which fuzz targets run, a regular expression.
FUZZ_RUN ?= .
# How many requests "make wire" sends.
WIRE_REQUESTS ?= 120000
# Arguments of "make bench", such as --rounds=9 --duration=4s.
BENCH_ARGS ?=
# Arguments of "make bench-async" for its measurement over HTTP.
BENCH_ASYNC_ARGS ?=
# Further arguments of the chaos targets, such as --seed=N or --dir=FOLDER.
CHAOS_ARGS ?=
# How many faults "make chaos-cluster-short" has.
CHAOS_FAULTS ?= 20
# The packages that fuzz, bench-go and deflake work on.
PKG ?= ./...
# Further arguments of every "go test", such as -run=TestName or -v.
TEST_ARGS ?=

# key: a name for the content of $(1) together with what else shapes a binary.
key = $(shell { go env GOVERSION GOOS GOARCH; cat hack/build-tools.sh $(1); } | git hash-object --stdin | cut -c1-12)

KUBE_BIN  := $(HEADGATE_BIN)/kube-$(call key,hack/kube/go.mod hack/kube/go.sum)
TOOLS_BIN := $(HEADGATE_BIN)/tools-$(call key,hack/tools/go.mod hack/tools/go.sum)
LINT_BIN  := $(HEADGATE_BIN)/lint-$(call key,hack/lint/go.mod hack/lint/go.sum hack/lint/main.go)

KUBE_APISERVER := $(KUBE_BIN)/kube-apiserver
CONTROLLER_GEN := $(TOOLS_BIN)/controller-gen
KUSTOMIZE      := $(TOOLS_BIN)/kustomize
HELM           := $(TOOLS_BIN)/helm
GOLANGCI_LINT  := $(LINT_BIN)/golangci-lint

# Read by controller-runtime's envtest, which runs kube-apiserver and etcd.
export KUBEBUILDER_ASSETS = $(KUBE_BIN)

GO_TEST := go test -race -shuffle=on $(TEST_ARGS)

##@ General

.PHONY: help
help: ## Show this help.
	@awk 'BEGIN {FS = ":.*##"; printf "Usage: make \033[36m<target>\033[0m [VARIABLE=value]\n"} \
		/^[a-zA-Z0-9_-]+:.*?##/ {printf "  \033[36m%-18s\033[0m %s\n", $$1, $$2} \
		/^##@/ {printf "\n\033[1m%s\033[0m\n", substr($$0, 5)}' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: build kube-assets ## Run the pet store demo on a real API server until Ctrl-C; DEMO_ONCE=1 ends with its result.
	go run ./hack/demo

##@ Development

.PHONY: generate
generate: $(CONTROLLER_GEN) ## Generate the DeepCopy functions of the API types.
	$(CONTROLLER_GEN) object:headerFile=hack/boilerplate.go.txt paths=./api/...

.PHONY: manifests
manifests: $(CONTROLLER_GEN) ## Generate the CustomResourceDefinitions and the controller's role.
	$(CONTROLLER_GEN) crd paths=./api/... output:crd:artifacts:config=config/crd/bases
	$(CONTROLLER_GEN) rbac:roleName=headgate-controller paths=./internal/controller/... output:rbac:artifacts:config=config/rbac

.PHONY: chart
chart: ## Copy the CustomResourceDefinitions and the controller's rules into the Helm chart.
	hack/chart.sh

.PHONY: fmt
fmt: $(GOLANGCI_LINT) ## Format the code.
	$(GOLANGCI_LINT) fmt

.PHONY: lint
lint: lint-code lint-api ## Lint code and API.

.PHONY: lint-code
lint-code: $(GOLANGCI_LINT) ## Lint the code.
	$(GOLANGCI_LINT) run ./...

.PHONY: lint-api
lint-api: $(GOLANGCI_LINT) ## Lint the API types with the Kubernetes API linter.
	$(GOLANGCI_LINT) run --config .golangci-kal.yml ./api/...

.PHONY: lint-fix
lint-fix: $(GOLANGCI_LINT) ## Lint and repair what can be repaired.
	$(GOLANGCI_LINT) run --fix ./...
	$(GOLANGCI_LINT) run --fix --config .golangci-kal.yml ./api/...

.PHONY: golden
golden: ## Rewrite the compiler's golden files; read the diff before committing it.
	go test ./internal/compile/... -update

.PHONY: tidy
tidy: ## Tidy the modules of the product and of the tools.
	@for dir in $(GO_MODULES); do (set -x; GOWORK=off go -C $$dir mod tidy); done

.PHONY: verify
verify: $(CONTROLLER_GEN) $(GOLANGCI_LINT) ## Prove that generated files, formatting, golden files and modules are up to date.
	hack/verify.sh $(GO_MODULES)

##@ Test

.PHONY: test
test: test-unit test-crd test-integration test-chart ## Run all tests; builds an API server the first time.

.PHONY: test-unit
test-unit: ## Run the unit tests; they need nothing but Go.
	$(GO_TEST) ./api/... ./internal/... ./cmd/... ./hack/...

.PHONY: test-crd
test-crd: kube-assets ## Prove every schema bound and CEL rule against a real API server.
	$(GO_TEST) ./test/crd/...

.PHONY: test-integration
test-integration: kube-assets ## Run the user stories with both binaries' code on a real API server.
	$(GO_TEST) ./test/integration/...

.PHONY: test-chart
test-chart: kube-assets helm ## Render, install, upgrade and uninstall the Helm chart on a real API server.
	HELM=$(HELM) $(GO_TEST) ./test/chart/...

.PHONY: wire
wire: ## Send WIRE_REQUESTS generated requests to a gateway, good and malformed ones.
	go test ./internal/gateway -run='^TestWireGenerated$$' -count=1 -v -args -wire.requests=$(WIRE_REQUESTS)

.PHONY: fuzz
fuzz: ## Run the fuzz targets of PKG that match FUZZ_RUN for FUZZ_TIME each.
	FUZZ_RUN='$(FUZZ_RUN)' hack/fuzz.sh $(FUZZ_TIME) $(PKG)

# What reads the words of strangers: expressions, signatures, bodies, paths,
# headers, URLs and addresses.
.PHONY: fuzz-strangers
fuzz-strangers: ## Run the fuzz targets of what reads the words of strangers for FUZZ_TIME each.
	FUZZ_RUN='^Fuzz(Lexer|BasicHeader|SignatureHeader|Decode(JSON|XML|Form|Multipart)|SplitPath|Route|Header|AnswerHeader|URL|BuildURL|Guard)$$' \
		hack/fuzz.sh $(FUZZ_TIME) ./internal/auth ./internal/expr ./internal/gateway ./internal/runner

# Sends requests that nobody waits for to a gateway that is killed, and counts.
CHAOS = CGO_ENABLED=0 go build -trimpath -o bin/chaos ./test/chaos && bin/chaos $(CHAOS_ARGS)

.PHONY: chaos
chaos: build ## Kill a gateway under load 1,000 times and until a million runs were accepted: none may be lost.
	$(CHAOS) --cycles=1000 --acknowledged=1000000 --life=4s --backlog=2000 --callers=256

.PHONY: chaos-short
chaos-short: build ## Kill a gateway under load 30 times.
	$(CHAOS) --cycles=30 --backlog=1500

.PHONY: chaos-power
chaos-power: build ## Cut the power of the store's volume 200 times; needs root, losetup and mkfs.ext4.
	$(CHAOS) --power-cuts=200

.PHONY: chaos-disk
chaos-disk: build ## Fill the store's volume and make room again; needs root, losetup and mkfs.ext4.
	$(CHAOS) --full-disk

.PHONY: chaos-cluster
chaos-cluster: build ## Kill and part three gateways that are one cluster 200 times; needs root and ip and tc (Debian: iproute2).
	$(CHAOS) --cluster-faults=200 --callers=16 --backlog=1000

.PHONY: chaos-cluster-short
chaos-cluster-short: build ## Kill and part three gateways that are one cluster CHAOS_FAULTS times; 20 have every kind of fault.
	$(CHAOS) --cluster-faults=$(CHAOS_FAULTS) --callers=16 --backlog=1000

.PHONY: bench
bench: build ## Compare the gateway with a handler by hand, nginx and HAProxy (Debian: apt-get install nginx haproxy); BENCH_ARGS=--help.
	CGO_ENABLED=0 go build -trimpath -o bin/bench ./test/bench
	bin/bench $(BENCH_ARGS)

# The bus and the gateway use the same disk, one after the other.
.PHONY: bench-async
bench-async: build ## Measure durable accepts per second at the bus and over HTTP, against what the disk can do.
	CGO_ENABLED=0 go build -trimpath -o bin/bench ./test/bench
	go test -run='^$$' -bench='^BenchmarkAccept$$' -benchtime=100000x ./internal/bus | tee bin/accepts.txt
	bin/bench --async --accepts=bin/accepts.txt $(BENCH_ASYNC_ARGS)

.PHONY: bench-go
bench-go: ## Run the Go benchmarks of PKG.
	go test -run='^$$' -bench=. -benchmem $(TEST_ARGS) $(PKG)

.PHONY: deflake
deflake: kube-assets ## Repeat the tests of PKG until they fail.
	for ((run = 1; ; run++)); do echo "run $$run"; $(GO_TEST) -count=1 $(PKG); done

##@ Build

.PHONY: build
build: ## Build the controller and the gateway as static binaries.
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o bin/ ./cmd/...

.PHONY: docker-build
ifdef PREBUILT
docker-build: build ## Build the image; PREBUILT=1 copies bin/ into it instead of compiling in a container.
	cp -L /etc/ssl/certs/ca-certificates.crt bin/ca-certificates.crt
	$(CONTAINER_TOOL) build --build-arg BINARIES=prebuilt -t $(IMG) .
else
docker-build:
	$(CONTAINER_TOOL) build -t $(IMG) .
endif

.PHONY: clean
clean: ## Remove binaries and cached tools.
	rm -rf bin

##@ Deploy

.PHONY: install
install: ## Install the CustomResourceDefinitions into the cluster of your kubeconfig.
	$(KUBECTL) apply -k config/crd

.PHONY: uninstall
uninstall: ## Remove the CustomResourceDefinitions and with them every Flow and Credential.
	$(KUBECTL) delete --ignore-not-found -k config/crd

.PHONY: deploy
deploy: overlay ## Deploy the controller and the gateway with IMG.
	$(KUBECTL) apply -k bin/deploy

.PHONY: undeploy
undeploy: overlay ## Remove everything that deploy made.
	$(KUBECTL) delete --ignore-not-found -k bin/deploy

# A kustomization of its own carries IMG, so that deploying changes no tracked file.
.PHONY: overlay
overlay: $(KUSTOMIZE)
	rm -rf bin/deploy && mkdir -p bin/deploy
	cd bin/deploy && $(KUSTOMIZE) create --resources ../../config/default && $(KUSTOMIZE) edit set image headgate=$(IMG)

##@ Tools

# The link bin/NAME leads people and editors to the set in use.
link = @mkdir -p bin && { [[ bin/$(2) -ef $(1) ]] || ln -sfn $(1) bin/$(2); }

.PHONY: kube-assets
kube-assets: $(KUBE_APISERVER) ## Build kube-apiserver, etcd and kubectl (about 5 minutes the first time).
	$(call link,$(KUBE_BIN),kube)

.PHONY: tools
tools: $(CONTROLLER_GEN) $(GOLANGCI_LINT) ## Build controller-gen, kustomize and golangci-lint.
	$(call link,$(TOOLS_BIN),tools)
	$(call link,$(LINT_BIN),lint)

.PHONY: helm
helm: $(HELM) ## Build Helm.
	$(call link,$(TOOLS_BIN),tools)

KUBE_VERSION = $(call version,kube,k8s.io/kubernetes)
KUBE_X = -X k8s.io/component-base/version

# version: what hack/$(1)/go.mod requires of module $(2).
version = $(shell awk '$$1 == "$(2)" {print $$2}' hack/$(1)/go.mod)

# kubectl and Helm compare these numbers, which "go build" alone leaves empty.
$(KUBE_APISERVER):
	hack/build-tools.sh hack/kube $(@D) "$(KUBE_X).gitVersion=$(KUBE_VERSION) $(KUBE_X).gitTreeState=clean \
		$(KUBE_X).gitMajor=1 $(KUBE_X).gitMinor=$(word 2,$(subst ., ,$(KUBE_VERSION)))" \
		kube-apiserver=k8s.io/kubernetes/cmd/kube-apiserver \
		kubectl=k8s.io/kubernetes/cmd/kubectl \
		etcd=go.etcd.io/etcd/server/v3

$(CONTROLLER_GEN):
	hack/build-tools.sh hack/tools $(@D) "" \
		controller-gen=sigs.k8s.io/controller-tools/cmd/controller-gen \
		kustomize=sigs.k8s.io/kustomize/kustomize/v5

$(KUSTOMIZE): $(CONTROLLER_GEN)

$(HELM):
	hack/build-tools.sh hack/tools $(@D) "-X helm.sh/helm/v4/internal/version.version=$(call version,tools,helm.sh/helm/v4)" \
		helm=helm.sh/helm/v4/cmd/helm

$(GOLANGCI_LINT):
	hack/build-tools.sh hack/lint $(@D) "" golangci-lint=.

GO_MODULES = . hack/kube hack/lint hack/tools
