#!/bin/sh
# A container image (OCI layout) of a directory, without any tool for containers: build_image.sh ROOTFS IMAGE
set -eu
work=$(mktemp -d) cache=.layers
blobs=$work/blobs/sha256
mkdir -p "$blobs" "$cache"
blob() { # FILE: put it among the blobs; its digest
  sum=$(sha256sum "$1" | cut -d ' ' -f 1)
  cp "$1" "$blobs/$sum"
  echo "$sum"
}
content=$(cd "$1" && find . -type f -exec sha256sum {} + | sort | sha256sum | cut -d ' ' -f 1)
layer=$cache/$content.tar
if [ -f "$layer" ]; then echo "layer from the cache"; else tar -C "$1" --sort=name --mtime=@0 -cf "$layer" .; fi
diff=$(blob "$layer")
printf '{"architecture":"amd64","os":"linux","config":{"Cmd":["/hello"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
  "$diff" >"$work/config"
config=$(blob "$work/config")
type=application/vnd.oci.image
printf '{"schemaVersion":2,"config":{"mediaType":"%s.config.v1+json","digest":"sha256:%s","size":%s},"layers":[{"mediaType":"%s.layer.v1.tar","digest":"sha256:%s","size":%s}]}' \
  "$type" "$config" "$(wc -c <"$work/config")" "$type" "$diff" "$(wc -c <"$layer")" >"$work/manifest"
manifest=$(blob "$work/manifest")
printf '{"schemaVersion":2,"manifests":[{"mediaType":"%s.manifest.v1+json","digest":"sha256:%s","size":%s}]}' \
  "$type" "$manifest" "$(wc -c <"$work/manifest")" >"$work/index.json"
echo '{"imageLayoutVersion":"1.0.0"}' >"$work/oci-layout"
tar -C "$work" -cf "$2" oci-layout index.json blobs
rm -rf "$work"
