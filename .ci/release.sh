#!/usr/bin/env bash
# Builds what a release consists of, in dist: a static binary for each system,
# the dashboard and the clients inside, with its list of parts (SBOM), the list of the
# dashboard's, the clients by themselves, and the checksums of all.
#
#   .ci/release.sh VERSION COMMIT
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=$1 commit=$2
export CGO_ENABLED=0

(cd embed/dashboard && npm ci --no-audit --no-fund && npm run --silent build)
clients/pack.sh

rm -rf dist
mkdir dist
for os in linux darwin windows; do
  for arch in amd64 arm64; do
    name=pikarc-$version-$os-$arch
    suffix=
    if [[ $os == windows ]]; then suffix=.exe; fi
    echo "$name"
    # The same flags as `make build`: the same source is the same file (see reproducible_test.go).
    GOOS=$os GOARCH=$arch go build -trimpath -buildvcs=false \
      -ldflags "-s -w -X github.com/pikarc/server/cli.version=$version -X github.com/pikarc/server/cli.commit=$commit" -o "dist/$name$suffix" .
    .ci/sbom.sh binary "$version" "dist/$name$suffix" >"dist/$name.cdx.json"
  done
done
.ci/sbom.sh dashboard "$version" >"dist/pikarc-$version-dashboard.cdx.json"
cp embed/clients/dist/pikarc* dist
(cd dist && sha256sum -- pikarc* >SHA256SUMS)
