# meshmount. "make help" tells what there is.

PREFIX  ?= /usr/local
DESTDIR ?=
BINDIR  ?= $(PREFIX)/bin
# mount(8) looks for mount.meshmount in /sbin and nowhere else.
SBINDIR ?= $(if $(filter /usr /usr/local,$(PREFIX)),/sbin,$(PREFIX)/sbin)
MANDIR  ?= $(PREFIX)/share/man
BASHDIR ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR  ?= $(PREFIX)/share/zsh/site-functions
FISHDIR ?= $(PREFIX)/share/fish/vendor_completions.d

GO      ?= go
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
# The product needs no C library; only the race detector of the tests does.
BUILD   := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)'

# Longest time that one package's tests may take.
TEST_TIMEOUT ?= 1800s
# Packages tested at once, and tests of one package.
TEST_P ?= 2
TEST_PARALLEL ?= 4
# The race detector leaves much garbage, for which there is memory, and sleeps at the end of
# every process for a second, which shows nothing more here. "make lint" has done what vet does.
TEST  = GOGC=400 $(GO) test -vet=off -timeout $(TEST_TIMEOUT) -p $(TEST_P) -parallel $(TEST_PARALLEL)
RACED = GORACE=atexit_sleep_ms=0 CGO_ENABLED=1 $(TEST) -race

# The black-box tests run without the race detector: what they hold is servers, which have tests
# of their own with it, and comparisons. The program that they mount with is built with it by
# themselves, but where it is killed, measured or has its disk filled.
BARE   := ./integration ./integration/write
# All others, those which take longest first.
TESTED  = ./remote/webdav ./remote/irods ./fs ./cache ./integration/posix \
	$(filter-out %/integration %/integration/write,$(shell $(GO) list ./...))
# Both at the same time, as the black-box tests often wait. A failure of one does not end the other.
TESTS   = { CGO_ENABLED=0 $(TEST) -p 1 $(COUNT) $(BARE) & bare=$$!; $(RACED) $(COUNT) $(TESTED); raced=$$?; wait $$bare && exit $$raced; }

# Tests keep their files in memory if there is plenty: they make, sync and remove very many, and
# what a disk does with them is not what they are about. TEST_DIR=/tmp has them on the disk.
TEST_DIR ?= $(shell awk '/^MemAvailable/ { exit $$2 < 12000000 }' /proc/meminfo && \
	df -k --output=avail /dev/shm 2>/dev/null | awk 'END { exit $$1 < 8000000 }' && echo /dev/shm || echo $${TMPDIR:-/tmp})
# Runs a command with a directory of its own for such files.
WITH_DIR = dir=$$(mktemp -d $(TEST_DIR)/meshmount-XXXXXX) && chmod 1777 $$dir && trap "rm -rf $$dir" EXIT && \
	export GOTMPDIR=$${TMPDIR:-/tmp} TMPDIR=$$dir &&

# For example BENCH_FLAGS='-quick -rows large,small -only ours,rclone'; see the
# program's -help. Without flags the results are written to integration/bench.
BENCH_FLAGS ?=

.DEFAULT_GOAL := build
.PHONY: help build demo test test-long bench lint install uninstall clean deps deps-demo deps-bench FORCE

help: ## show this text
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: bin/meshmount ## build the static program bin/meshmount

bin/meshmount: FORCE
	$(BUILD) -o $@ ./cmd/meshmount

bin/meshdemo: FORCE
	$(BUILD) -o $@ ./cmd/meshdemo

demo: deps-demo bin/meshmount bin/meshdemo ## mount two local EFSS sites and two iRODS zones in one tree and compute on them
	bin/meshdemo --binary bin/meshmount

test: deps lint ## lint, then all tests, under the race detector as far as it tells anything
	$(WITH_DIR) $(TESTS)

# Without results of former runs, as what is random differs.
test-long: TEST_TIMEOUT = 14400s
test-long: COUNT = -count=1
test-long: deps lint ## the same with the full numbers of kills, operations and servers, which takes hours
	$(WITH_DIR) export MESHMOUNT_LONG=1 && $(TESTS)

bench: deps-bench bin/meshmount ## measure beside rclone, davfs2 and irodsfs over an emulated WAN (as root; BENCH_FLAGS)
	$(GO) run ./integration/bench -binary bin/meshmount $(or $(BENCH_FLAGS),-out integration/bench)

# Without cgo, which nothing uses, so that what is compiled serves the static program, too.
lint: export CGO_ENABLED = 0
lint: ## gofmt, go vet, staticcheck
	@bad=$$(gofmt -l .); if [ -n "$$bad" ]; then echo "not formatted by gofmt:"; echo "$$bad"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

install: build ## install program, mount helper, man pages, completions (PREFIX, DESTDIR)
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(SBINDIR) $(DESTDIR)$(MANDIR)/man1 \
		$(DESTDIR)$(BASHDIR) $(DESTDIR)$(ZSHDIR) $(DESTDIR)$(FISHDIR)
	install -m 0755 bin/meshmount $(DESTDIR)$(BINDIR)/meshmount
	ln -sf $(BINDIR)/meshmount $(DESTDIR)$(SBINDIR)/mount.meshmount
	bin/meshmount man $(DESTDIR)$(MANDIR)/man1
	bin/meshmount completion bash > $(DESTDIR)$(BASHDIR)/meshmount
	bin/meshmount completion zsh > $(DESTDIR)$(ZSHDIR)/_meshmount
	bin/meshmount completion fish > $(DESTDIR)$(FISHDIR)/meshmount.fish

uninstall: ## remove what "make install" has put there
	rm -f $(DESTDIR)$(BINDIR)/meshmount $(DESTDIR)$(SBINDIR)/mount.meshmount \
		$(DESTDIR)$(MANDIR)/man1/meshmount.1 $(DESTDIR)$(MANDIR)/man1/meshmount-*.1 \
		$(DESTDIR)$(BASHDIR)/meshmount $(DESTDIR)$(ZSHDIR)/_meshmount $(DESTDIR)$(FISHDIR)/meshmount.fish

deps: ## install from Debian what the tests need and the machine lacks (as root)
	@integration/deps.sh test

deps-demo:
	@integration/deps.sh demo

deps-bench:
	@integration/deps.sh bench || true # who is missing is reported

clean: ## remove what was built
	rm -rf bin coverage.out

FORCE:
