# The images of the Dockerfile, made of a binary that is there: `make build`
# first. No image is needed but PostgreSQL's. Without certificates in it walden
# reaches an S3 server by https only with repository.s3.ca_file.
ARG POSTGRES_IMAGE=postgres:17

FROM scratch AS walden
COPY bin/walden /usr/local/bin/walden
COPY --chown=65532:65532 docker/tmp /tmp
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/walden"]
CMD ["help"]

FROM ${POSTGRES_IMAGE} AS postgres
COPY --from=walden /usr/local/bin/walden /usr/local/bin/walden
