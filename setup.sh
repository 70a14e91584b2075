#!/bin/sh
# Prepares a machine for developing and testing: a Vulkan driver, a C linker, a Chromium for the browser tests, the wasm
# target. Safe to run again; says what it did.
# Training itself needs nothing from here: `cargo run --release -- pretrain` works with Rust alone.
set -eu

say() { printf 'setup: %s\n' "$*"; }

# Runs a command as root, by sudo where needed and there.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null 2>&1; then sudo "$@"
    else return 1
    fi
}

has_vulkan_driver() {
    for dir in /usr/share/vulkan/icd.d /etc/vulkan/icd.d /usr/local/share/vulkan/icd.d; do
        ls "$dir"/*.json >/dev/null 2>&1 && return 0
    done
    [ -n "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ]
}

has_browser() {
    for program in chromium chromium-browser google-chrome google-chrome-stable microsoft-edge; do
        command -v "$program" >/dev/null 2>&1 && return 0
    done
    return 1
}

install() {
    if command -v apt-get >/dev/null 2>&1; then
        as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null
    elif command -v dnf >/dev/null 2>&1; then
        as_root dnf install -q -y "$@"
    elif command -v pacman >/dev/null 2>&1; then
        as_root pacman -S --noconfirm --needed "$@"
    else
        return 1
    fi
}

case "$(uname -s)" in
Linux)
    if has_vulkan_driver; then
        say "a Vulkan driver is installed"
    else
        say "no Vulkan driver: installing Mesa's software driver"
        if command -v apt-get >/dev/null 2>&1; then packages="mesa-vulkan-drivers libvulkan1"
        elif command -v dnf >/dev/null 2>&1; then packages="mesa-vulkan-drivers vulkan-loader"
        else packages="vulkan-swrast vulkan-icd-loader"
        fi
        # shellcheck disable=SC2086
        install $packages || say "could not install it; the shader tests will be skipped with a loud line"
    fi
    if ! command -v cc >/dev/null 2>&1; then
        say "no C linker: installing one"
        if command -v apt-get >/dev/null 2>&1; then install gcc libc6-dev || say "could not install it; Rust cannot link without"
        else install gcc || say "could not install it; Rust cannot link without"
        fi
    fi
    if [ -n "${BEIT_CHROMIUM:-}" ] || has_browser; then
        say "a Chromium is installed"
    else
        say "no Chromium: installing one for the browser tests"
        install chromium || say "could not install it; the browser tests will be skipped with a loud line"
    fi
    ;;
*) say "nothing to install on $(uname -s): wgpu uses the system's own graphics driver" ;;
esac

if command -v rustup >/dev/null 2>&1; then
    rustup target list --installed 2>/dev/null | grep -q '^wasm32-unknown-unknown$' || {
        say "adding the wasm32 target"
        rustup target add wasm32-unknown-unknown || say "could not add it; the browser page cannot be built without"
    }
    for component in rustfmt clippy; do
        rustup component list --installed 2>/dev/null | grep -q "^$component" || {
            say "adding $component"
            rustup component add "$component" || say "could not add $component"
        }
    done
fi
say "done"
