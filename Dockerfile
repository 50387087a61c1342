# syntax=docker/dockerfile:1

FROM rust:1-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY .cargo ./.cargo
COPY benches ./benches
COPY crates ./crates
COPY dashboards ./dashboards
COPY src ./src
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin streamgauge \
 && cp target/release/streamgauge /usr/local/bin/streamgauge

# glibc, libgcc and the CA certificates; no shell, no package manager; the user is nonroot (65532).
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /usr/local/bin/streamgauge /usr/local/bin/streamgauge
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/streamgauge/
EXPOSE 10121
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
    CMD ["/usr/local/bin/streamgauge", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/streamgauge"]
CMD ["serve"]
