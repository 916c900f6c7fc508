# syntax=docker/dockerfile:1
# The builder needs a Rust toolchain and a C compiler; any image with both will do.
ARG BUILDER=docker.io/library/rust:1.95-bookworm
ARG RUNTIME=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILDER} AS build
# `dev` builds faster, for trying the image out.
ARG PROFILE=release
WORKDIR /src
COPY . .
RUN cargo build --locked --package rota --profile "${PROFILE}" \
 && mkdir -p /out/etc/rota \
 && install -m 0755 "target/$([ "${PROFILE}" = dev ] && echo debug || echo "${PROFILE}")/rota" /out/rota \
 && cp -r config/default.toml /out/etc/rota/

FROM ${RUNTIME}
COPY --from=build /out/rota /usr/local/bin/rota
COPY --from=build /out/etc/rota /etc/rota
# Non-root; the root file system may be read-only; no shell is needed.
USER 65532:65532
WORKDIR /etc/rota
# Where default.toml lies, and {environment}.toml for those who set ROTA_ENVIRONMENT.
ENV ROTA_CONFIG_DIR=/etc/rota
ENV ROTA__DAEMON__LISTEN=0.0.0.0:9464
EXPOSE 9464
# Alive, not ready: a database that is down is no reason to restart the daemon.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/usr/local/bin/rota", "health", "--live"]
ENTRYPOINT ["/usr/local/bin/rota"]
CMD ["serve"]
