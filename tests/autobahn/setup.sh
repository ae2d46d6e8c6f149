#!/usr/bin/env bash
# Makes DIR/run.sh, which runs the Autobahn suite with a specification: tests/autobahn/setup.sh DIR
# autobahntestsuite is Python 2 code; it is taken from PyPI and ported by port.py (for Python 3.11 or 3.12).
set -euo pipefail
directory=$1
here=$(cd "$(dirname "$0")" && pwd)
version=25.10.1

python3 -W ignore -c 'import lib2to3' || {
  echo "tests/autobahn/setup.sh: python3 must be 3.11 or 3.12: later ones cannot port Python 2 code" >&2
  exit 1
}
rm -rf "$directory"
mkdir -p "$directory"
cd "$directory"
python3 -m venv venv
pip() { ./venv/bin/python -m pip --disable-pip-version-check "$@"; }
pip install -q 'setuptools<81' wheel twisted six zope.interface pyopenssl service_identity txaio==2.1.0 jinja2 klein \
  werkzeug wsaccel
pip install -q --no-deps --no-build-isolation autobahn==0.10.9
pip download -q --no-deps --no-build-isolation "autobahntestsuite==$version" -d download
mkdir original
tar xzf "download/autobahntestsuite-$version.tar.gz" --strip 1 -C original
./venv/bin/python -W ignore "$here/port.py" original/autobahntestsuite ported/autobahntestsuite
cat > run.sh <<'RUN'
#!/usr/bin/env bash
cd "$(dirname "$0")"
start='from autobahntestsuite.wstest import run; run()'
PYTHONPATH=ported exec ./venv/bin/python -W ignore -c "$start" -m fuzzingclient -s "$1"
RUN
chmod +x run.sh
