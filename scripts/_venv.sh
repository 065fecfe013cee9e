# Sourced by scripts/run and scripts/test: find a Python that really runs, make .venv, install what a lock file pins.
# POSIX sh, for Linux and macOS. Everything it says goes to standard error.
#
#   prepare LOCK...   gives a .venv in which the packages of the last LOCK are installed and `llmcap` starts.
#
# What is installed is remembered in .venv/installed-NAME, a copy of the locks and of the place they were installed at:
# while it is equal, nothing is done. It is written last, so an install that was interrupted is done again.

venv="$root/.venv"
lock_folder="$root/.venv.lock"
lock_wait_s=900 # an install on a slow line takes minutes; a longer wait means that something hangs

say() { printf 'llmcap: %s\n' "$*" >&2; }

fail() {
    say "$*"
    exit 1
}

# A program that is on PATH may still not run (a pyenv shim for a version that isn't chosen), so each is tried.
# Free-threaded builds don't serve: few packages have wheels for them.
runs() {
    "$1" -c 'import sys, sysconfig
sys.exit(sys.version_info < (3, 12) or bool(sysconfig.get_config_var("Py_GIL_DISABLED")))' </dev/null >/dev/null 2>&1
}

# Debian ships Python without ensurepip, which `python -m venv` needs, in a package of its own.
makes_venvs() {
    "$1" -c 'import ensurepip, venv' </dev/null >/dev/null 2>&1
}

candidates() {
    printf '%s\n' python3.14 python3.13 python3.12 python3
    for home in "${PYENV_ROOT:-}" "${HOME:-}/.pyenv"; do
        for version in 14 13 12; do
            for program in "$home"/versions/3."$version"*/bin/python; do
                [ ! -x "$program" ] || printf '%s\n' "$program"
            done
        done
    done
}

# Sets $python to the first that serves, or $lacking to the first that only lacks ensurepip.
find_python() {
    python=
    lacking=
    list=$(candidates)
    while IFS= read -r program; do
        runs "$program" || continue
        if makes_venvs "$program"; then
            python=$program
            return 0
        fi
        [ -n "$lacking" ] || lacking=$program
    done <<LIST
$list
LIST
    return 1
}

explain_no_python() {
    if [ -n "$lacking" ]; then
        name=$("$lacking" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
        fail "$name is here but can't make a virtual environment: sudo apt install $name-venv"
    fi
    case "$(uname -s)" in
        Darwin) hint="brew install python@3.13" ;;
        *) hint="sudo apt install python3.13 python3.13-venv (or python3.12), or install uv: https://docs.astral.sh/uv" ;;
    esac
    fail "no Python 3.12 or newer runs on this machine: $hint"
}

wanted() {
    printf '%s\n' "$root"
    for lock in "$@"; do cat "$root/$lock"; done
}

usable() {
    [ -x "$venv/bin/python" ] && [ -x "$venv/bin/llmcap" ] && wanted "$@" | cmp -s - "$venv/installed-$name"
}

# False for an environment that was made elsewhere (the checkout was moved or copied: its programs name the old place),
# is half made, or whose Python is gone; it is then made anew.
belongs_here() {
    [ "$(cat "$venv/made-at" 2>/dev/null)" = "$root" ] && runs "$venv/bin/python"
}

with_uv() {
    command -v uv >/dev/null 2>&1 || return 1
    if ! belongs_here; then
        rm -rf "$venv"
        uv venv --quiet --python '>=3.12' "$venv" >"$log" 2>&1 || return 1
        printf '%s\n' "$root" >"$venv/made-at"
    fi
    uv pip install --quiet --python "$venv/bin/python" --require-hashes -r "$root/$1" >"$log" 2>&1
}

with_pip() {
    if ! belongs_here || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        rm -rf "$venv"
        find_python || explain_no_python
        "$python" -m venv "$venv" >"$log" 2>&1 || return 1
        printf '%s\n' "$root" >"$venv/made-at"
    fi
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
        --require-hashes -r "$root/$1" >"$log" 2>&1
}

# The checkout itself needs no build: a .pth file puts it on the path, and `llmcap` is a few lines. (-P: the folder that
# LLMCap is started in is none of its business, whatever Python files lie there.)
link_checkout() {
    packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    printf '%s\n' "$root" >"$packages/llmcap-checkout.pth"
    cat >"$venv/bin/llmcap.new" <<PROGRAM
#!/bin/sh
exec '$venv/bin/python' -P -m llmcap_addon "\$@"
PROGRAM
    chmod +x "$venv/bin/llmcap.new"
    mv "$venv/bin/llmcap.new" "$venv/bin/llmcap"
}

release() { rm -rf "$lock_folder"; }

# One install at a time: mkdir either makes the folder or fails, on every file system.
acquire() {
    waited=0
    while ! mkdir "$lock_folder" 2>/dev/null; do
        [ -w "$root" ] || fail "can't write to $root"
        holder=$(cat "$lock_folder/pid" 2>/dev/null || true)
        if [ -n "$holder" ] && ! kill -0 "$holder" 2>/dev/null; then
            rm -rf "$lock_folder" # its owner was killed
            continue
        fi
        [ "$waited" -gt 0 ] || say "another install is running (process ${holder:-unknown}), waiting for it"
        [ "$waited" -lt "$lock_wait_s" ] || fail "gave up waiting; if no install is running, remove $lock_folder"
        sleep 1
        waited=$((waited + 1))
    done
    printf '%s\n' "$$" >"$lock_folder/pid"
    trap release EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

prepare() {
    for last in "$@"; do :; done
    name=${last%.lock}
    ! usable "$@" || return 0
    acquire
    if ! usable "$@"; then
        say "installing into $venv (once; takes about a minute)"
        rm -f "$venv"/installed-*
        log="$lock_folder/log"
        if ! with_uv "$last" && ! with_pip "$last"; then
            cat "$log" >&2
            fail "the install failed (its output stands above); is the package index reachable? Run this again."
        fi
        link_checkout
        wanted "$@" >"$lock_folder/installed"
        mv "$lock_folder/installed" "$venv/installed-$name"
    fi
    release
    trap - EXIT INT TERM HUP
}
