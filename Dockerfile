# A static binary on an empty image. It runs as nobody in particular, and writes
# only to /data:
#
#   docker build -t pikarc .
#   docker run --read-only --cap-drop ALL --security-opt no-new-privileges \
#     -v pikarc:/data -p 127.0.0.1:8000:8000 pikarc
FROM node:24 AS dashboard
WORKDIR /src/embed/dashboard
COPY embed/dashboard/package.json embed/dashboard/package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY server/openapi.json /src/server/
COPY policies/ready.json /src/policies/
COPY embed/dashboard ./
RUN npm run --silent build

FROM python:3.13 AS python
WORKDIR /src/clients
COPY clients/requirements-pack.txt ./
RUN pip install --no-cache-dir --no-deps --requirement requirements-pack.txt
COPY clients/python python
RUN cd python && SOURCE_DATE_EPOCH=1577836800 python -m hatchling build -d /out

FROM node:24 AS typescript
WORKDIR /src/clients/typescript
COPY clients/typescript/package.json clients/typescript/package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY clients/typescript ./
RUN npm run --silent build && npm pack --ignore-scripts && mkdir /out && mv pikarc-*.tgz /out/pikarc.tgz

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
COPY --from=dashboard /src/embed/dashboard/dist embed/dashboard/dist
COPY --from=python /out embed/clients/dist
COPY --from=typescript /out embed/clients/dist
ARG VERSION=dev COMMIT=unknown
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false \
      -ldflags "-s -w -X github.com/pikarc/server/cli.version=$VERSION -X github.com/pikarc/server/cli.commit=$COMMIT" -o /out/pikarc . \
 && mkdir -m 0700 /out/data

FROM scratch
# To ask the certificate authority for a certificate.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/pikarc /pikarc
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
# All addresses, and the port that follows from the other settings: 8000, or 443
# and 80 with PIKARC_TLS_DOMAIN. There is no /tmp, which backups would want.
ENV PIKARC_ADDR=: PIKARC_DATA_DIR=/data SQLITE_TMPDIR=/data
VOLUME /data
EXPOSE 8000 443 80
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/pikarc", "health"]
ENTRYPOINT ["/pikarc"]
CMD ["serve"]
