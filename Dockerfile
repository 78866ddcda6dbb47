# Copyright The Headgate Authors.
# SPDX-License-Identifier: Apache-2.0

# One image with both programs: /controller and /gateway.
#
# BINARIES names the stage that they come from: "build" compiles them here, for
# any platform; "prebuilt" takes them from bin/, where "make docker-build
# PREBUILT=1" puts them, and needs no base image at all.
ARG BINARIES=build
ARG GO_VERSION=1.26.8

FROM --platform=$BUILDPLATFORM golang:${GO_VERSION} AS build
ARG TARGETOS
ARG TARGETARCH
WORKDIR /src
# The modules change less often than the code: a layer of their own.
COPY go.mod go.sum ./
RUN go mod download
COPY api api
COPY cmd cmd
COPY internal internal
RUN mkdir /out && \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w" -o /out/ ./cmd/controller ./cmd/gateway && \
    cp /etc/ssl/certs/ca-certificates.crt /out/

FROM scratch AS prebuilt
COPY bin/controller bin/gateway bin/ca-certificates.crt /out/

FROM ${BINARIES} AS binaries

FROM scratch
LABEL org.opencontainers.image.title="Headgate" \
      org.opencontainers.image.source="https://github.com/headgate-io/headgate" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=binaries /out/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=binaries /out/controller /out/gateway /
# A number, so that runAsNonRoot can be checked without a passwd file.
USER 65532:65532
# No entry point: each Deployment names its program.
CMD ["/gateway"]
