#!/bin/sh
# Pythons that this machine does not have, from Debian: apt resolves, dpkg-deb unpacks under build/,
# nothing is installed. Needs root and a Debian machine.
#
#   debian.sh newest COMMAND ...    runs it, here, in the next Debian's root: python3.14 and python3.15
#   debian.sh arm64 COMMAND ...     runs it, here; FUNCTION_PYTHON, which the tests heed, is Debian's arm64 Python, run by qemu
set -eu
repo=$(cd "$(dirname "$0")/../.." && pwd)

fail() { echo "debian.sh: $1" >&2; exit 1; }

apt() {
    apt-get -qq -y -o Dir::Etc::sourcelist="$folder/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State="$folder" -o Dir::State::status="$folder/status" -o Dir::Cache="$folder" \
        -o APT::Architecture="$arch" -o APT::Architectures="$arch" -o APT::Sandbox::User=root \
        -o APT::Install-Recommends=false -o Acquire::Languages=none -o Acquire::Check-Valid-Until=false "$@"
}

# unpack FOLDER SUITE ARCH PACKAGE ...: the packages and all that they need, in FOLDER/root. A second
# call does nothing, until what is asked for changes.
unpack() {
    folder=$1 suite=$2 arch=$3 wanted=$*
    shift 3
    [ "$(cat "$folder/unpacked" 2>/dev/null)" != "$wanted" ] || return 0
    # The machine's own mirror: Debian's first of those that apt knows.
    known() { apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1; }
    mirror=$(known)
    [ -n "$mirror" ] || { apt-get -qq update && mirror=$(known); }    # an image comes without lists
    [ -n "$mirror" ] || fail "apt knows no mirror of Debian here: run it on Debian"
    rm -rf "$folder"
    mkdir -p "$folder/root" "$folder/archives/partial" "$folder/lists/partial"
    : >"$folder/status"
    # Check-Valid-Until=false above: a mirror's Release file may have expired; its signature is verified.
    echo "deb [arch=$arch signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$folder/sources.list"
    apt update
    apt install --download-only "$@"
    # base-files first: its links (/lib to usr/lib) are kept by those that come after.
    for deb in "$folder"/archives/base-files_*.deb "$folder"/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$folder/root" --keep-directory-symlink
    done
    rm -rf "$folder/archives" "$folder/lists" "$folder"/*.bin
    echo "$wanted" >"$folder/unpacked"
}

newest() {
    unpack "$repo/build/newest" forky "$(dpkg --print-architecture)" \
        base-files bash binutils coreutils dash findutils grep hostname libc-bin make mawk mount sed tar util-linux \
        python3.14-venv python3.15-venv
    root=$repo/build/newest/root
    if [ ! -e "$root/usr/bin/awk" ]; then    # what the packages' own scripts would have done, and this machine's network
        ln -s mawk "$root/usr/bin/awk"
        echo root:x:0:0:root:/root:/bin/sh >"$root/etc/passwd"
        echo root:x:0: >"$root/etc/group"
        mkdir -p "$root/opt" "$root/etc/ssl/certs" "$root$repo"
        for file in /etc/hosts /etc/resolv.conf /etc/ssl/certs/ca-certificates.crt \
            /etc/pip.conf ~/.config/pip/pip.conf ~/.pip/pip.conf; do
            [ ! -e "$file" ] || { mkdir -p "$root${file%/*}" && cp -L "$file" "$root$file"; }
        done
    fi
    # The mounts go with the process. The root is a mount point, as that of a container is.
    exec unshare --mount --propagation private sh -euc '
        root=$1 repo=$2
        shift 2
        mount --bind "$root" "$root"
        mount --bind "$repo" "$root$repo"
        mount --rbind /dev "$root/dev"
        mount -t proc proc "$root/proc"
        exec chroot "$root" env PATH=/usr/sbin:/usr/bin LANG=C.UTF-8 sh -c '\''cd "$0" && exec "$@"'\'' "$repo" "$@"
    ' sh "$root" "$repo" "$@"
}

arm64() {
    unpack "$repo/build/qemu" bookworm "$(dpkg --print-architecture)" base-files qemu-user-static
    unpack "$repo/build/arm64" bookworm arm64 base-files libc-bin python3-minimal python3.11-venv
    root=$repo/build/arm64/root
    # By the name of this script, beside whose folder it finds its library, it also is sys.executable:
    # the function's children start as the function does.
    mkdir -p "$repo/build/arm64/bin"
    ln -sfn root/usr/lib "$repo/build/arm64/lib"
    cat >"$repo/build/arm64/bin/python3" <<END
#!/bin/sh
exec "$repo/build/qemu/root/usr/bin/qemu-aarch64-static" -0 "\$0" -L "$root" "$root/usr/bin/python3.11" "\$@"
END
    chmod +x "$repo/build/arm64/bin/python3"
    FUNCTION_PYTHON=$repo/build/arm64/bin/python3 exec "$@"
}

[ "$(id -u)" = 0 ] || fail "needs root"
for program in apt-get dpkg-deb unshare; do
    command -v $program >/dev/null || fail "needs apt-get, dpkg-deb and unshare: run it on Debian"
done
case ${1-} in
newest) shift && newest "$@" ;;
arm64) shift && arm64 "$@" ;;
*) fail "newest COMMAND ..., or arm64 COMMAND ..." ;;
esac
