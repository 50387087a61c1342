# syntax=docker/dockerfile:1

FROM rust:1-bookworm AS build
WORKDIR /src
# The dependencies are a layer of their own, built with empty sources: it lasts as long as these two files.
COPY Cargo.toml Cargo.lock ./
COPY .cargo ./.cargo
RUN mkdir -p src benches \
 && echo 'fn main() {}' > src/main.rs \
 && touch src/lib.rs \
 && sed -n '/^\[\[bench\]\]/,/^name/ s/^name = "\(.*\)"/\1/p' Cargo.toml \
  | xargs -I NAME touch benches/NAME.rs \
 && cargo build --release --locked \
 && rm -r src
COPY src ./src
# A copied file keeps its old time of change, which cargo would take for built already.
RUN touch src/main.rs src/lib.rs \
 && cargo build --release --locked --bin streamgauge

# glibc, libgcc and the CA certificates; no shell, no package manager; the user is nonroot (65532).
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/streamgauge /usr/local/bin/streamgauge
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/streamgauge/
EXPOSE 10121
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
    CMD ["/usr/local/bin/streamgauge", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/streamgauge"]
CMD ["serve"]
