# shellcheck shell=bash
# Says in one line which tools are missing and how to get them.

missing=()
packages=()
want() { # want COMMAND NAME DEBIAN_PACKAGE
  command -v "$1" >/dev/null 2>&1 && return
  missing+=("$2")
  if [ -n "$3" ]; then packages+=("$3"); fi
}

report_missing() {
  [ "${#missing[@]}" -gt 0 ] || return 0
  local names
  names=$(printf '%s, ' "${missing[@]}")
  [ "${#packages[@]}" -gt 0 ] || die "missing: ${names%, }; install it"
  die "missing: ${names%, }; install (Debian and Ubuntu: apt-get install ${packages[*]})"
}

# need_tools run | fetch JARS CLICKHOUSE | build
need_tools() {
  missing=() packages=()
  case $1 in
    run)
      [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] ||
        die "the native stack needs Linux on x86-64, this is $(uname -s) on $(uname -m): install Docker and set WEFT_STACK=docker"
      want python3 "Python 3.10 or newer" python3
      want java "JDK 17 or newer" openjdk-17-jdk-headless
      want setsid "setsid" util-linux
      report_missing
      python3 -c 'import sys, ctypes, ssl; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
        die "$(python3 --version 2>&1) cannot be used: install Python 3.10 or newer with ctypes (Debian and Ubuntu: apt-get install python3)"
      ;;
    fetch)
      if [ "$2" = 1 ]; then
        want mvn "Maven" maven
        want xz "xz" xz-utils
      fi
      if [ "$3" = 1 ]; then want npm "npm" npm; fi
      ;;
    build)
      want cargo "Rust (get it with rustup)" ''
      want cmake "cmake" cmake
      want cc "C compiler" build-essential
      want c++ "C++ compiler" build-essential
      want make "make" make
      ;;
  esac
  report_missing
}

need_java() {
  local version
  version=$(java -XshowSettings:properties -version 2>&1 | sed -n 's/.*java.specification.version = \([0-9]*\).*/\1/p')
  [ "${version:-0}" -ge 17 ] || die "Java ${version:-?} is too old for Kafka: install JDK 17 or newer (Debian and Ubuntu: apt-get install openjdk-17-jdk-headless)"
}
