# shellcheck shell=bash
# What the walks through the installed packages have in common: the users with their tokens, and headquarters' part. To be
# sourced, where mintmark-hq and mintmark-site are installed.

module=/usr/lib/softhsm/libsofthsm2.so
stick=/media/stick

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# As one of the users, in its folder, with its token.
as() {
    local user=$1
    shift
    runuser -u "$user" -- env -C "/var/lib/$user" HOME="/var/lib/$user" SOFTHSM2_CONF="/var/lib/$user/softhsm2.conf" \
        HQ_HOME=/var/lib/mintmark-hq/hq SITE_HOME=/var/lib/mintmark-site/vault "$@"
}
hq() { as mintmark-hq hq "$@"; }
site() { as mintmark-site site "$@"; }
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" | head -n 1; }

# The commands of a document, as a script: what stands in its blocks that are marked `sh`, or in the Nth of them.
blocks() {
    awk -v wanted="${2-}" '/^ *```sh$/ {inside = 1; number++; next} /^ *```$/ {inside = 0; next}
        inside && (wanted == "" || wanted == number)' "$1"
}

# A token, its PIN in a file beside it.
token() {
    local user=$1 label=$2 home=/var/lib/$1
    if [[ ! -e $home/softhsm2.conf ]]; then
        as "$user" mkdir -m 700 tokens
        printf 'directories.tokendir = %s/tokens\nobjectstore.backend = file\nlog.level = ERROR\n' "$home" >"$home/softhsm2.conf"
    fi
    as "$user" bash -c 'umask 077 && openssl rand -hex 8 >"$1.pin" && softhsm2-util --init-token --free --label "$1" \
        --so-pin "$(openssl rand -hex 8)" --pin "$(<"$1.pin")"' - "$label" >/dev/null
}
keys() { echo "pkcs11:token=$2?module-path=$module&pin-source=file:/var/lib/$1/$2.pin"; }
hq_keys() { keys mintmark-hq "$1"; }

# A stick changes hands: a FAT one belongs to whoever mounts it.
hand_to() { chown -R "$1:" "$stick/mintmark"; }

approve() {
    for officer in alice bob; do
        hq --home /var/lib/mintmark-hq/home-$officer approval sign "$1" --officer $officer --keys "$(hq_keys $officer)" --output "$1.$officer"
        hq approval import "$1.$officer"
    done
}

# Headquarters is founded; the trust manifest is on the stick, and its fingerprint in $trust.
ceremony() {
    for label in hq root alice bob; do token mintmark-hq "$label"; done
    as mintmark-hq bash -c 'openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out escrow-private.pem 2>/dev/null &&
        openssl pkey -in escrow-private.pem -pubout -out escrow.pem'
    hq init --name Acme --keys "$(hq_keys hq)" --root-keys "$(hq_keys root)" --escrow-key escrow.pem
    for officer in alice bob; do
        fingerprint=$(hq officer request --name $officer --keys "$(hq_keys $officer)" --output $officer.request --json | field fingerprint)
        hq officer add --request $officer.request --fingerprint "$fingerprint"
    done
    trust=$(hq trust draft --output trust.draft --json | field fingerprint)
    for officer in alice bob; do
        hq approval sign trust.draft --officer $officer --keys "$(hq_keys $officer)" --fingerprint "$trust" --output trust.$officer
        hq approval import trust.$officer
    done
    hq trust publish --media "$stick"
    for officer in alice bob; do
        hq --home /var/lib/mintmark-hq/home-$officer trust pin --trust "$stick/mintmark/trust-000001.cose" --fingerprint "$trust"
    done
}

# The vault whose request is on the stick is enrolled, and granted units by the policy $1; what goes back is on the stick.
let_in() {
    local enrolment id
    hand_to mintmark-hq
    enrolment=$(site status --json | field enrolment_fingerprint)
    id=$(hq site enrol --request "$stick/mintmark/enrol-berlin_v1.cose" --fingerprint "$enrolment" --output enrol.draft --json | field id)
    approve enrol.draft
    hq site grant "$id"
    id=$(hq entitlement draft --site berlin --policy "$1" --output demo.draft --json | field id)
    approve demo.draft
    hq entitlement export "$id"
    hq media export "$stick"
    hand_to mintmark-site
}
