#!/bin/sh
# Installs on this system what was built from this tree, or removes it again. `deploy/install.sh --help` says how.
#
# It starts nothing, stops the service only to remove it, and uses no network. Debian's package is made with it, too: debian/rules.
set -eu
umask 022

usage() {
    cat << 'END'
Usage: install.sh [--prefix DIR] [--executable FILE] [--documents DIR] [--dry-run]
       install.sh --uninstall [--purge] [--prefix DIR] [--dry-run]

Installs supervisor: the executable, the manual, completions, systemd's units and files, and, if there is none, /etc/supervisor/supervisor.toml.
Files that are there and right are left alone. Build first:

    cargo build --release
    cargo run --release --package supervisor --example documents -- target/documents

  --prefix DIR       where to install [default: /usr/local]
  --executable FILE  the executable [default: target/release/supervisor]
  --documents DIR    the manual and the completions [default: target/documents]
  --dry-run          print what would be done, and do nothing
  --uninstall        remove it; the configuration, the models and the user stay
  --purge            with --uninstall: remove the configuration and the models in /var/lib/supervisor, too
  --help             print this

A value may follow its option after `=`, too. With DESTDIR in the environment, all files go below that folder, and neither users nor services of this system are touched.
END
}

fail() {
    printf 'install.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

# Says what is done, and whether it is to be done.
act() {
    changes=$((changes + 1))
    printf '%s\n' "$1"
    [ -z "$dry_run" ]
}

# put MODE SOURCE TARGET: what is there and right is left alone.
put() {
    target=$DESTDIR$3
    if [ -f "$target" ] && [ ! -L "$target" ] && cmp -s "$2" "$target" && [ "$(stat -c %a "$target")" = "$1" ]; then
        return
    fi
    if act "install $3"; then
        mkdir -p "$(dirname "$target")"
        # Written beside it and renamed: an executable that runs cannot be written to, and half a file is never there.
        cp "$2" "$target.new"
        chmod "$1" "$target.new"
        mv -f "$target.new" "$target"
    fi
}

# drop TARGET
drop() {
    if [ -e "$DESTDIR$1" ] || [ -L "$DESTDIR$1" ]; then
        if act "remove $1"; then rm -rf "$DESTDIR$1"; fi
    fi
}

# run COMMAND...: only on the system itself.
run() {
    if [ -z "$DESTDIR" ] && act "run $*"; then "$@"; fi
}

runs_systemd() {
    [ -z "$DESTDIR" ] && [ -d /run/systemd/system ]
}

# Pages of ours that are installed. Other programs' pages may begin with the same word.
installed_pages() {
    for page in "$DESTDIR$prefix"/share/man/man[15]/supervisor[-.]*; do
        if [ -f "$page" ] && grep -q '^\.TH .*"Supervisor Manual"$' "$page"; then
            printf '%s\n' "${page#"$DESTDIR"}"
        fi
    done
}

# started_by UNIT: the executable of ours that a unit starts, be it by way of other commands; nothing if it is not there or starts another program.
# It is the last word before `run` that is a path to a file of our name, without what systemd allows before a path, and without quotes.
started_by() {
    [ ! -f "$DESTDIR$1" ] || awk '
        { line = line $0 }
        sub(/\\$/, " ", line) { next }
        line ~ /^[ \t]*ExecStart[ \t]*=/ {
            sub(/^[^=]*=/, "", line)
            gsub(/["\047]/, " ", line)
            words = split(line, word)
            path = ""
            for (i = 1; i <= words; i++) {
                if (word[i] == "run" && path != "") { print path; exit }
                if (word[i] ~ /^[-@:+!|]*\/(.*\/)?supervisor$/) path = substr(word[i], index(word[i], "/"))
            }
        }
        { line = "" }
    ' "$DESTDIR$1"
}

# There is one of it on a system. Another unit of this name is another program's, or ours of another prefix, and is hidden by ours, or ours by it. Who
# uninstalls would take the configuration and the models from it and, where units of several prefixes lie in one folder, its units; that there is an
# executable below the prefix does not say that it is the one that runs.
refuse_other_units() {
    for folder in $unit_folders; do
        unit=$folder/systemd/system/supervisor.service
        [ -f "$DESTDIR$unit" ] || continue
        started=$(started_by "$unit")
        case $started in
            "$prefix/bin/supervisor") ;;
            '')
                # Another program's unit does not keep us from removing ours, unless it is in its place. Whose the models are is not known then.
                if [ -z "$uninstall" ] || [ -n "$purge" ] || [ "$folder" = "$lib" ]; then
                    fail "$unit belongs to another program; remove that first"
                fi
                ;;
            *)
                [ -z "$uninstall" ] || fail "$unit starts $started, so it is installed there; name that prefix with --prefix"
                fail "$unit starts $started, which is installed already; remove that first"
                ;;
        esac
    done
}

# What a package has put there is for its manager to exchange and to remove.
refuse_package() {
    if grep -qsxF "$prefix/bin/supervisor" "$DESTDIR/var/lib/dpkg/info/model-supervisor.list"; then
        fail "what is in $prefix belongs to Debian's package model-supervisor; apt-get remove model-supervisor"
    fi
}

install_files() {
    [ -f "$executable" ] || fail "there is no $executable; build it with cargo build --release, or name it with --executable"
    [ -f "$documents/man/supervisor.1" ] ||
        fail "there is no manual in $documents; cargo run --release --package supervisor --example documents -- $documents"
    refuse_package
    refuse_other_units
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM

    put 755 "$executable" "$prefix/bin/supervisor"
    for page in $(installed_pages); do
        [ -f "$documents/man/${page##*/}" ] || drop "$page"
    done
    for page in "$documents"/man/*.[15]; do
        put 644 "$page" "$prefix/share/man/man${page##*.}/${page##*/}"
    done
    put 644 "$documents/completions/supervisor.bash" "$bash_completion"
    put 644 "$documents/completions/_supervisor" "$zsh_completion"
    put 644 "$documents/completions/supervisor.fish" "$fish_completion"

    units_before=$changes
    for unit in supervisor.service supervisor.socket supervisor-http.socket; do
        sed "s|/usr/bin/supervisor|$prefix/bin/supervisor|" "$here/$unit" > "$work/$unit"
        put 644 "$work/$unit" "$lib/systemd/system/$unit"
    done
    units_changed=$((changes - units_before))
    put 644 "$here/sysusers.d/supervisor.conf" "$lib/sysusers.d/supervisor.conf"
    put 644 "$here/tmpfiles.d/supervisor.conf" "$lib/tmpfiles.d/supervisor.conf"
    if [ ! -e "$DESTDIR$configuration" ]; then
        put 644 "$here/supervisor.toml" "$configuration"
    fi
}

install_on_system() {
    if ! getent passwd supervisor > /dev/null; then
        if command -v systemd-sysusers > /dev/null; then
            run systemd-sysusers "$lib/sysusers.d/supervisor.conf"
        else
            getent group supervisor > /dev/null || run groupadd --system supervisor
            run useradd --system --gid supervisor --home-dir "$models" --no-create-home --shell /usr/sbin/nologin supervisor
        fi
    fi
    if [ ! -d "$models" ] && command -v systemd-tmpfiles > /dev/null; then
        run systemd-tmpfiles --create "$lib/tmpfiles.d/supervisor.conf"
    fi
    if runs_systemd; then
        [ "$units_changed" -eq 0 ] || run systemctl daemon-reload
        if systemctl --quiet is-active supervisor.service; then
            echo 'The daemon still runs as it was; systemctl restart supervisor.service'
        else
            echo 'To start it, now and with the system: systemctl enable --now supervisor.socket supervisor.service'
        fi
    fi
}

uninstall() {
    refuse_package
    refuse_other_units
    if runs_systemd && [ -f "$lib/systemd/system/supervisor.service" ]; then
        run systemctl disable --now supervisor-http.socket supervisor.socket supervisor.service
    fi
    for page in $(installed_pages); do
        drop "$page"
    done
    for file in "$prefix/bin/supervisor" "$bash_completion" "$zsh_completion" "$fish_completion" \
        "$lib/systemd/system/supervisor.service" "$lib/systemd/system/supervisor.socket" \
        "$lib/systemd/system/supervisor-http.socket" \
        "$lib/sysusers.d/supervisor.conf" "$lib/tmpfiles.d/supervisor.conf"; do
        drop "$file"
    done
    if [ -n "$purge" ]; then
        drop "$configuration"
        drop "$models"
        # Another program uses a folder of this name, so only an empty one goes.
        if [ -z "$dry_run" ] && [ -d "$DESTDIR${configuration%/*}" ]; then
            rmdir --ignore-fail-on-non-empty "$DESTDIR${configuration%/*}"
        fi
    fi
    if runs_systemd && [ "$changes" -ne 0 ]; then run systemctl daemon-reload; fi
}

here=$(cd "$(dirname "$0")" && pwd)
prefix=/usr/local
executable=$here/../target/release/supervisor
documents=$here/../target/documents
DESTDIR=${DESTDIR:-}
DESTDIR=${DESTDIR%/}
dry_run=
uninstall=
purge=
changes=0

while [ $# -gt 0 ]; do
    case $1 in
        --prefix=* | --executable=* | --documents=*)
            option=${1%%=*} value=${1#*=}
            shift
            set -- "$option" "$value" "$@"
            ;;
    esac
    case $1 in
        --prefix | --executable | --documents)
            [ $# -gt 1 ] || fail "$1 needs a value; see --help" 2
            case $1 in
                --prefix) prefix=${2%/} ;;
                --executable) executable=$2 ;;
                --documents) documents=$2 ;;
            esac
            shift
            ;;
        --dry-run) dry_run=yes ;;
        --uninstall) uninstall=yes ;;
        --purge) purge=yes ;;
        --help)
            usage
            exit
            ;;
        *) fail "there is no option $1; see --help" 2 ;;
    esac
    shift
done

# The prefix is written into a unit, where other characters would mean something.
case $prefix in
    *[!A-Za-z0-9._/+-]*) fail 'the prefix may have letters, digits and . _ / + - only' 2 ;;
    /*//* | /*/ | //* | */./* | */. | */../* | */..) fail 'the prefix must be written without // and without folders named . or ..' 2 ;;
    /?*) ;;
    *) fail 'the prefix must be an absolute path below /' 2 ;;
esac
[ -z "$purge" ] || [ -n "$uninstall" ] || fail '--purge goes with --uninstall only' 2
case $DESTDIR in
    '') [ -n "$dry_run" ] || [ "$(id -u)" -eq 0 ] || fail 'only root can install on the system; or set DESTDIR' ;;
    /*) ;;
    *) fail 'DESTDIR must be an absolute path' 2 ;;
esac

# systemd looks into these two prefixes and into /etc.
case $prefix in
    /usr | /usr/local) lib=$prefix/lib ;;
    *) lib=/etc ;;
esac
bash_completion=$prefix/share/bash-completion/completions/supervisor
fish_completion=$prefix/share/fish/vendor_completions.d/supervisor.fish
case $prefix in
    /usr) zsh_completion=/usr/share/zsh/vendor-completions/_supervisor ;;
    *) zsh_completion=$prefix/share/zsh/site-functions/_supervisor ;;
esac
unit_folders='/etc /usr/local/lib /usr/lib /lib'
configuration=/etc/supervisor/supervisor.toml
models=/var/lib/supervisor

if [ -n "$uninstall" ]; then
    uninstall
else
    install_files
    [ -n "$DESTDIR" ] || install_on_system
fi
[ "$changes" -ne 0 ] || echo 'nothing to do'
