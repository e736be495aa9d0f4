# docker build --build-arg EXTRAS=cuda -t fld_jax .     (or tpu; nothing: a CPU;
#                                             serve or cuda,serve: the service)
# docker run --gpus all -v FOLDER:/data fld_jax \
#   --config=configs/dfa.py:dataset=deepfashion --manual_dir=/data/deepfashion \
#   --config.dataset.data_dir=/data/records --workdir=/data/run
# docker run -p 8000:8000 -v W:/run:ro -v CACHE:/home/fld/.cache fld_jax \
#   --mode=serve --workdir=/run --host=0.0.0.0
# FOLDER must be writable for user 1000.

# The Python that fld_jax is tested with most.
FROM python:3.12-slim

# See launch/environment.sh.
RUN apt-get update \
  && apt-get install -y --no-install-recommends libtcmalloc-minimal4 \
  && rm -rf /var/lib/apt/lists/*
ENV LD_PRELOAD=libtcmalloc_minimal.so.4 \
  GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \
  PYTHONUNBUFFERED=1

RUN useradd --create-home --uid 1000 fld
WORKDIR /fld_jax
COPY . .
ARG EXTRAS=
RUN pip install --no-cache-dir --constraint constraints.txt \
  --editable ".${EXTRAS:+[$EXTRAS]}"

USER 1000
# The program itself is process 1, so SIGTERM reaches it.
ENTRYPOINT ["python", "-m", "fld_jax.main"]
