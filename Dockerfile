# syntax=docker/dockerfile:1

# Images are named by digest, so that a build gives the same result later. `docker buildx imagetools inspect NAME` prints
# the newest one.
FROM rust:1-bookworm@sha256:fdb91abf3cb33f1ebc84a76461d2472fd8cf606df69c181050fa7474bade2895 AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY .cargo ./.cargo
COPY benches ./benches
COPY crates ./crates
COPY dashboards ./dashboards
COPY src ./src
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    # As in scripts/release.sh: kernels with pages of 64 KiB exist on this architecture.
    if [ "$(uname -m)" = aarch64 ]; then export JEMALLOC_SYS_WITH_LG_PAGE=16; fi; \
    cargo build --release --locked --bin streamgauge \
 && cp target/release/streamgauge /usr/local/bin/streamgauge

# glibc, libgcc and the CA certificates; no shell, no package manager; the user is nonroot (65532).
FROM gcr.io/distroless/cc-debian12:nonroot@sha256:9dac0a79194e45a7da0158a9c6da57b217585af0786db3845d1f0ec1a0dd182f
LABEL org.opencontainers.image.title=streamgauge \
      org.opencontainers.image.description="Prometheus exporter for Redis and Valkey Streams" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /usr/local/bin/streamgauge /usr/local/bin/streamgauge
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/streamgauge/
EXPOSE 10121
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
    CMD ["/usr/local/bin/streamgauge", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/streamgauge"]
CMD ["serve"]
