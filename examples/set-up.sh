# Sourced by the examples: sets up what is missing, and builds Alnair into the examples' Python environment.
#
#   set_up GROUP...     groups of cmake/install-dependencies; sets `python`. Needs `root`, the top of the sources.
#   supervise COMMAND   runs it as a process group of its own, so that Ctrl-C ends all of it at once

child=
trap '[ -z "$child" ] || kill -TERM -- "-$child" 2>/dev/null || true; exit 130' INT TERM
supervise() {
  setsid "$@" &
  child=$!
  local status=0
  wait "$child" || status=$?
  child=
  return $status
}

set_up() {
  log=$(mktemp); trap 'rm -f "$log"' EXIT
  cd "$root"
  cmake/install-dependencies build python "$@"
  supervise cmake/python-environment --torch quickstart examples/quickstart/requirements.txt >"$log"
  python=$(tail -n 1 "$log")

  # Alnair goes into that environment whenever its sources have changed.
  sources=$(find src include cmake python CMakeLists.txt pyproject.toml -type f -not -name '*.pyc' -print0 | LC_ALL=C sort -z |
    xargs -0 sha256sum | sha256sum | cut -d ' ' -f 1)
  stamp=$(dirname "$python")/../.alnair-sources
  if [ "$(cat "$stamp" 2>/dev/null)" != "$root $sources" ]; then
    echo "Building Alnair (a few minutes)..." >&2
    rm -f "$stamp"
    if command -v ccache >/dev/null; then
      export CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1
    fi
    if ! supervise "$python" -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation --force-reinstall . \
      >"$log" 2>&1; then
      tail -n 40 "$log" >&2; echo "the build failed (see above)" >&2; exit 1
    fi
    echo "$root $sources" >"$stamp"
  fi
  rm -f "$log"
}
