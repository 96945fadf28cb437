#!/usr/bin/env bash
# Runs the kernels' tests for aarch64 on an x86-64 Debian 12 with its security updates, under qemu.
#
# Installs with apt: Debian's own Rust (rustc-web) with its sources, a cross linker and qemu; some 250
# MB to download, 2 GB on disk. From those sources it builds the standard library for aarch64, once
# for each version of the compiler, into target/arm, where everything else that it writes is as well.
#
# usage: scripts/test-arm.sh [ARGUMENT...]    of `cargo test`; default: -p embed-worker --lib kernels
set -euo pipefail
cd "$(dirname "$0")/.."

triple=aarch64-unknown-linux-gnu
packages=(rustc-web cargo-web rust-web-src gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static)
root=$([ "$(id -u)" = 0 ] || echo sudo)
if ! dpkg -s "${packages[@]}" >/dev/null 2>&1; then
  $root apt-get update -qq
  $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi

# Debian's compiler, whatever rustup has put before it: the library must be built from its sources.
export PATH=/usr/bin:$PATH CARGO_TARGET_DIR=$PWD/target/arm
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -L /usr/aarch64-linux-gnu"
unset RUSTFLAGS

sysroot=$CARGO_TARGET_DIR/sysroot-$(rustc --version | sha256sum | cut -c1-12)
libraries=$sysroot/lib/rustlib/$triple/lib
if [ ! -e "$libraries/complete" ]; then
  echo "test-arm: building the standard library for $triple" >&2
  empty=$(mktemp -d)
  trap 'rm -rf "$empty"' EXIT
  mkdir -p "$empty/src" "$libraries"
  touch "$empty/src/lib.rs"
  printf '[package]\nname = "empty"\nversion = "0.0.0"\nedition = "2024"\n' >"$empty/Cargo.toml"
  (
    cd "$empty"
    # Cargo builds a standard library only for those who ask for what is unstable.
    RUSTC_BOOTSTRAP=1 CARGO_HOME=$empty/home CARGO_TARGET_DIR=$empty/target cargo build --quiet --offline \
      --release --target $triple -Zbuild-std=std,panic_unwind,panic_abort,test \
      --config 'source.crates-io.replace-with="vendored"' \
      --config 'source.vendored.directory="/usr/lib/rustlib/src/rust/library/vendor"'
  )
  cp "$empty/target/$triple/release/deps/"*.rlib "$libraries/"
  rm -f "$libraries/"libempty*
  touch "$libraries/complete"
fi
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="--sysroot=$sysroot"

[ $# -gt 0 ] || set -- -p embed-worker --lib kernels
cargo test --target $triple "$@"
