# shellcheck shell=bash
# Installs what the tests need and this machine lacks. To be sourced.

# need_packages PACKAGE:COMMAND...
#
# Makes sure that each command, or each file if it is an absolute path, is there, and installs the Debian packages of
# those that are not. Returns 1 if something is still missing then, having said what and why.
need_packages() {
    local entry missing=()
    for entry in "$@"; do
        if ! packages_has "${entry#*:}" && [[ " ${missing[*]} " != *" ${entry%%:*} "* ]]; then
            missing+=("${entry%%:*}")
        fi
    done
    if ((${#missing[@]} == 0)); then
        return 0
    fi

    local become=()
    if ! command -v apt-get >/dev/null; then
        echo "missing: please install what Debian calls: ${missing[*]}" >&2
        return 1
    elif ((EUID != 0)); then
        if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
            echo "missing: please run as root: apt-get install ${missing[*]}" >&2
            return 1
        fi
        become=(sudo -n)
    fi

    echo "installing Debian packages: ${missing[*]}"
    local log
    log=$(mktemp)
    if ! packages_install "$log" "${missing[@]}"; then
        cat "$log" >&2
        if grep -qiE 'could not (resolve|connect)|unable to connect|failed to fetch|temporary failure|timed out|unreachable' "$log"; then
            echo "missing: the package mirror could not be reached; with a network, run: apt-get install ${missing[*]}" >&2
        else
            echo "missing: apt-get could not install: ${missing[*]}" >&2
        fi
        rm -f "$log"
        return 1
    fi
    rm -f "$log"

    local absent=()
    for entry in "$@"; do
        packages_has "${entry#*:}" || absent+=("${entry#*:} (package ${entry%%:*})")
    done
    if ((${#absent[@]} > 0)); then
        echo "missing, although its package is installed: ${absent[*]}" >&2
        return 1
    fi
}

packages_has() {
    if [[ $1 == /* ]]; then
        [[ -e $1 ]]
    else
        command -v "$1" >/dev/null
    fi
}

# The lists of packages are fetched once in a run, and only when something is missing.
packages_updated=no

packages_install() {
    local log=$1
    shift
    local apt=("${become[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
    if [[ $packages_updated == no ]]; then
        # Old lists may still do, so only the installation itself decides.
        "${apt[@]}" update >>"$log" 2>&1 || true
        packages_updated=yes
    fi
    "${apt[@]}" install --yes --no-install-recommends "$@" </dev/null >>"$log" 2>&1
}
