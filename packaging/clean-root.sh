# shellcheck shell=bash
# Makes a clean Debian in a folder. To be sourced, after .ci/packages.sh.

# the_packages FOLDER
#
# Sets packages to the three of a folder. Returns 2 if they are not there, having said what to do.
the_packages() {
    shopt -s nullglob
    packages=("$1"/mintmark-{hq,site,station}_*.deb)
    if ((${#packages[@]} != 3)); then
        echo "${0##*/}: there are not exactly three packages in $1: run packaging/build first" >&2
        return 2
    fi
}

# clean_root FOLDER PACKAGE...
#
# Debian of this machine's release, from the mirror that its apt is set to, with what ${packages[@]} depend on and these
# packages beside it. Returns 3 if that cannot be had, having said why. Needs root.
clean_root() {
    local folder=$1 sources suite needed proxy scheme options=()
    shift
    need_packages mmdebstrap:mmdebstrap debian-archive-keyring:/usr/share/keyrings/debian-archive-keyring.gpg || return 3
    # shellcheck disable=SC2016 # apt fills that in
    sources=$(apt-get indextargets --format 'deb $(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' | sort -u)
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    if [[ -z $sources ]]; then
        echo "${0##*/}: apt knows no Debian mirror here: run apt-get update, or take a Debian machine" >&2
        return 3
    fi
    for scheme in http https; do
        proxy=$(apt-config shell proxy "Acquire::$scheme::Proxy" | sed "s/^proxy='\(.*\)'$/\1/")
        [[ -z $proxy ]] || options+=("--aptopt=Acquire::$scheme::Proxy \"$proxy\"")
    done
    # What they depend on: dpkg itself gets nothing from anywhere.
    needed=$(
        {
            for package in "${packages[@]}"; do dpkg-deb --field "$package" Depends; done |
                tr ',' '\n' | sed 's/^ *\([^ (|]*\).*/\1/'
            printf '%s\n' "$@"
        } | sort -u | paste -sd,
    )
    if ! mmdebstrap --quiet --mode=root --variant=apt --include="$needed" \
        --keyring=/usr/share/keyrings/debian-archive-keyring.gpg "${options[@]}" "$suite" "$folder" - <<<"$sources"; then
        echo "${0##*/}: the clean root could not be made; is the mirror reachable?" >&2
        return 3
    fi
}
