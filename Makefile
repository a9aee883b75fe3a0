# `make help` lists the targets. Everything that they make lies in build/.

SHELL := /bin/sh
# The PATH of sudo lacks the usual place of Go.
export PATH := $(PATH):/usr/local/go/bin
export CGO_ENABLED := 0
export GOFLAGS := -trimpath -buildvcs=false

VERSION := $(shell sed -n '1s/.*(\(.*\)).*/\1/p' packaging/debian/changelog)
# Debian's name of the architecture to build for; amd64 and arm64 are tried.
ARCH ?= $(shell dpkg --print-architecture)
# Debian's and Go's names differ for some.
GOARCH_armhf := arm
GOARCH_i386 := 386
GOARCH_ppc64el := ppc64le
GOARCH_FOR = $(or $(GOARCH_$(ARCH)),$(ARCH))

DEB := build/app-rollout_$(VERSION)_$(ARCH).deb
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME ?= 30s

DEB_TOOLS := dpkg-dev debhelper fakeroot
MACHINE_TOOLS := mmdebstrap systemd-container iproute2 util-linux
VM_TOOLS := mmdebstrap e2fsprogs qemu-system-x86

.PHONY: help build deb lintian unit generate test stories story soak demo vm bench lint fuzz clean deb-tools machine-tools vm-tools npm

help:
	@echo 'make build       generator and helper, in build/bin/'
	@echo 'make deb         the Debian package, in build/ (ARCH=arm64: for another architecture)'
	@echo 'make generate    the BPF objects anew from their C, with the clang of Debian 12'
	@echo 'make unit        tests that need nothing'
	@echo 'sudo make test   all tests: unit tests, then stories on throw-away Debians with their own systemd'
	@echo 'sudo make story  one of these stories: RUN=TestModes (test/README.md tells more); make stories: all of them, without the unit tests'
	@echo 'sudo make demo   three rollouts under load on a throw-away Debian, step by step'
	@echo 'sudo make vm     the life of a server on the kernels of Debian 12 and 13 themselves, in virtual machines'
	@echo 'sudo make soak   the whole fault matrix and the whole model, then random edits, faults and reboots (MINUTES=10, SEED= of a failed run)'
	@echo 'sudo make bench  measure beside other ways to deploy, and the servers, into test/bench/RESULTS.md (half an hour)'
	@echo 'make lint        gofmt, go vet, staticcheck'
	@echo 'make lintian     lintian over the package'
	@echo 'make fuzz        each fuzz target for FUZZTIME=$(FUZZTIME)'
	@echo 'make clean       remove build/ (the built Debian images too)'

# build/go.mod keeps `./...` out of the images in there.
build/go.mod:
	@mkdir -p build
	@echo 'module build' > $@

build: build/go.mod
	GOOS=linux GOARCH=$(GOARCH_FOR) go build -ldflags='-s -w -buildid= -X main.version=$(VERSION)' -o build/bin/app-rollout-generator ./generator
	GOOS=linux GOARCH=$(GOARCH_FOR) go build -ldflags='-s -w -buildid= -X main.version=$(VERSION)' -o build/bin/rollout-helper ./rollout-helper

# The package is built in a copy of the tree, in which packaging/debian is debian/.
# Each run has a copy of its own. debhelper unsets HOME, so Go is told where its
# caches are.
deb: build/go.mod deb-tools
	@echo 'building $(DEB)'; set -e; \
	stage=$$(mktemp -d build/deb.XXXXXX); trap 'rm -rf "$$stage"' EXIT; mkdir "$$stage/src"; \
	git -c safe.directory='*' ls-files -z --cached --others --exclude-standard >"$$stage/files" 2>/dev/null || \
	  find . \( -path ./build -o -path ./.git \) -prune -o -type f -print0 >"$$stage/files"; \
	tar -c --null --ignore-failed-read -T "$$stage/files" | tar -x -C "$$stage/src"; \
	cp -r packaging/debian "$$stage/src/debian"; \
	(cd "$$stage/src" && GOCACHE="$$(go env GOCACHE)" GOMODCACHE="$$(go env GOMODCACHE)" GOENV="$$(go env GOENV)" \
	  dpkg-buildpackage --host-arch=$(ARCH) --build=binary --unsigned-source --unsigned-changes --no-check-builddeps) \
	  >"$$stage/log" 2>&1 || { tail -50 "$$stage/log"; exit 1; }; \
	rm -f build/app-rollout_*_$(ARCH).deb; \
	mv "$$stage"/app-rollout_$(VERSION)_$(ARCH).* build/

# The objects are committed: building the package takes no clang.
generate: machine-tools
	go run ./test/generate

lintian: deb
	@$(call need,lintian)
	lintian --fail-on error,warning --tag-display-limit 0 --info $(DEB)

unit: build/go.mod
	go test ./...

# The stories boot throw-away Debians. Two run at a time, because they mostly wait.
STORIES := go test -tags story -count=1 -timeout 55m -parallel 2
stories: deb machine-tools npm
	$(STORIES) ./test/

# RUN is a pattern of names, as go test -run has it.
RUN ?=
story: deb machine-tools npm
	@[ -n "$(RUN)" ] || { echo 'which one? make story RUN=TestModes'; exit 1; }
	$(STORIES) -v -run '$(RUN)' ./test/

ifeq ($(shell id -u),0)
test: unit stories
else
test: unit
	@echo
	@echo 'Left out, since you are not root: the stories (install, boot, rollouts under load, on throw-away Debians).'
	@echo 'All tests: sudo make test'
endif

demo: deb machine-tools
	@go run ./test/demo

vm: deb vm-tools
	go test -tags vm -count=1 -timeout 30m -v ./test/vm

# Every fault at every step, on throw-away Debians and in the model; then random
# edits, faults and reboots for MINUTES. A failed run prints its SEED.
MINUTES ?= 10
SEED ?=
soak: deb machine-tools
	THOROUGH=1 go test -count=1 -timeout 60m ./rollout-helper/rollout
	SOAK=1 SOAK_MINUTES=$(MINUTES) SOAK_SEED=$(SEED) go test -tags story -count=1 -timeout 0 -parallel 2 -v -run '^Test(Faults|ManyInstances|OddApps|Soak)$$' ./test

# DEPLOYS=5: measure 5 deploys of each instead of 20. KAMAL_PROXY: the path of that
# program, if it is not on PATH.
# First the servers, into build/servers.md, which the page takes up; last, whether the
# links to the page's headings still lead somewhere.
bench: deb machine-tools npm
	export BENCH_STARTED=$$(date +%s); \
	SERVERS=full go test -tags story -count=1 -timeout 30m -v -run '^TestServers$$' ./test && \
	go test -tags bench -count=1 -timeout 90m -v ./test/bench && \
	go test -count=1 ./test/pages

lint: build/go.mod
	@unformatted=$$(gofmt -l $$(find . -path ./build -prune -o -name '*.go' -print)); \
	  [ -z "$$unformatted" ] || { echo "gofmt -w $$unformatted"; exit 1; }
	go vet ./...
	go vet -tags story,vm,bench ./test/...
	go run $(STATICCHECK) ./...
	go run $(STATICCHECK) -tags story,vm,bench ./test/...

fuzz: build/go.mod
	@for package in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz'); do \
	    echo "$$package $$target"; \
	    go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package || exit 1; \
	  done; \
	done

clean:
	rm -rf build

# need installs the missing ones of these Debian packages, or names them.
need = missing=; for p in $(1); do \
	  dpkg-query --show --showformat='$${db:Status-Status}' $$p 2>/dev/null | grep -qx installed || missing="$$missing $$p"; \
	done; \
	[ -z "$$missing" ] || if [ $$(id -u) = 0 ]; then \
	  echo "apt-get install$$missing"; \
	  export DEBIAN_FRONTEND=noninteractive; \
	  { apt-get -qq update && apt-get -qq install --no-install-recommends -o=Dpkg::Use-Pty=0 $$missing >build/apt.log 2>&1; } || \
	    { cat build/apt.log; exit 1; }; \
	else echo "missing; as root: apt-get install$$missing"; exit 1; fi

deb-tools: build/go.mod
	@$(call need,$(DEB_TOOLS))

vm-tools: build/go.mod
	@$(call need,$(VM_TOOLS))

machine-tools: build/go.mod
	@$(call need,$(MACHINE_TOOLS))

# Node 22 and Bun come from npm. Any npm that is on the machine will do.
npm: build/go.mod
	@command -v npm >/dev/null || { $(call need,npm); }
