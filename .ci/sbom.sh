#!/usr/bin/env bash
# Writes a CycloneDX list of parts (SBOM) to standard output: of the Go modules that the linker
# has left in a binary, or of the packages that the dashboard is built from. It has no serial
# number and no time: the same input gives the same list.
#
#   .ci/sbom.sh binary VERSION FILE
#   .ci/sbom.sh dashboard VERSION
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
version=$2
case $1 in
  binary)
    GOFLAGS=-trimpath go tool -modfile="$root/.ci/tools/go.mod" cyclonedx-gomod bin \
      -json -std -noserial -notimestamp -version "$version" "$3"
    ;;
  dashboard)
    # productionOnly.ts sees to it that the dashboard holds no package of those that --omit leaves out.
    # The tool's own optional packages would be compiled, to check XML that is not asked for.
    cd "$root/embed/dashboard"
    npm_config_omit=optional npx --yes @cyclonedx/cyclonedx-npm@6.0.1 \
      --package-lock-only --omit dev --mc-type application --short-PURLs --output-reproducible |
      sed "s/0\.0\.0\"/$version\"/"
    ;;
  *)
    echo "sbom.sh: binary or dashboard" >&2
    exit 2
    ;;
esac
