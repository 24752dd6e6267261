# SPDX-License-Identifier: Apache-2.0
# For people. Meson does the work; "make help" lists what there is.
.DEFAULT_GOAL := all
.PHONY: all help setup demo soak tour check stress bench bench-mmu bench-fault bench-sharing bench-reservation bench-kvm bench-policy-live hostbox guest lint tidy format clean

BUILD := build
CC    ?= gcc
export MEZZ_BUILD := $(BUILD)

all: $(BUILD)/build.ninja ## build the programs
	@ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@tools/setup build guest check
	@CC=gcc meson setup $(BUILD)

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## install what is missing from Debian's packages
	@tools/setup

guest: all ## build the guest image (kernel and initramfs) from Debian's packages
	@guest/build-image

demo: guest ## six guests in less memory than they touch: share, balloon, compress, swap
	@tools/demo

soak: guest ## SECONDS=600: six guests touch twice the memory while mezzd is killed every 20 s
	@tools/soak --seconds $(or $(SECONDS),600)

tour: guest ## boot a guest and take a short tour
	@tools/tour

check: ## build with both compilers, lint, and run every test (under 15 minutes)
	@tools/setup build guest check
	@tools/check

bench: guest ## compare with QEMU's TCG: table, build/bench.json
	@tools/setup bench
	@bench/bench

bench-mmu: guest ## compare software and hardware memory virtualization: table, JSON, plots
	@tools/setup bench
	@bench/bench-mmu

bench-sharing: guest ## looking for equal pages beside Linux's KSM on the same contents; needs root
	@bench/bench-sharing

bench-reservation: guest ## what a VM inside its reservation loses while memory is taken from others
	@bench/bench-reservation

bench-fault: guest ## waits for compressed and swapped pages beside a raw read of the disk
	@bench/bench-fault

stress: guest ## 20 boots in each mode while random pages come and go; minutes
	@MEZZ_STRESS_BOOTS=$(or $(BOOTS),20) \
		python3 -B tests/guest/test_options.py Options.test_revoke_stress

bench-kvm: guest ## start-up and memory under KVM beside QEMU's microvm, in a host box
	@tools/setup bench check
	@bench/bench-kvm

hostbox: guest ## every guest test under KVM in a host box, nested paging on and off; an hour
	@tools/setup check
	@tests/hostbox/run --npt 1 --timeout 3600 all
	@tests/hostbox/run --npt 0 --timeout 3600 all

bench-policy-live: guest ## the idle memory tax on two live guests, in 3 minutes
	@bench/bench-policy-live

lint: ## format, header, layer, documentation and spelling checks
	@tools/setup check
	@tools/lint

tidy: all ## clang-tidy and cppcheck over everything; slow
	@tools/setup check
	@tools/tidy

format: ## apply .clang-format to all C sources
	@tools/setup check
	@tools/format

clean: ## remove everything that was built
	@rm -rf build build-*
