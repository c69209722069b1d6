# shellcheck shell=bash
# Finds the Rust toolchain. To be sourced.

# need_rust
#
# Rust as rust-toolchain.toml pins it or, where that is not installed, the stable one if it is new enough. Returns 2 if
# there is none, having said what to do.
need_rust() {
    if ! command -v cargo >/dev/null && [[ -x $HOME/.cargo/bin/cargo ]]; then
        PATH=$HOME/.cargo/bin:$PATH
    fi
    if ! command -v cargo >/dev/null; then
        echo "Rust is not installed: install Rust 1.95 or later with rustup, then run this again." >&2
        return 2
    fi
    if ! cargo --version >/dev/null 2>&1; then
        local version
        version=$(RUSTUP_TOOLCHAIN=stable rustc --version 2>/dev/null | cut -d' ' -f2 || true)
        if [[ -z $version || $(printf '%s\n' 1.95.0 "$version" | sort -V | head -n 1) != 1.95.0 ]]; then
            echo "The pinned Rust toolchain is not installed, and there is no stable one from 1.95 on:" >&2
            echo "run \`rustup toolchain install\` here, then run this again." >&2
            return 2
        fi
        export RUSTUP_TOOLCHAIN=stable
        echo "the pinned toolchain is not installed; using stable, $version"
    fi
    if ! rustc --version >/dev/null; then
        echo "cargo is there but rustc is not: install the whole of Rust with rustup." >&2
        return 2
    fi
}

# need_rust_tools
#
# The formatter and the linter. Returns 2 if one is missing, having said what to do.
need_rust_tools() {
    if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
        echo "rustfmt or clippy is missing: run \`rustup component add rustfmt clippy\`, then run this again." >&2
        return 2
    fi
}
