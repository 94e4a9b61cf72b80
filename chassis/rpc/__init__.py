"""Calls between processes: the gRPC server, the client of another process, and how a method is served."""

import os

# gRPC writes notes about broken lines to stderr, where the processes log JSON. It reads this variable when it
# is first used, so it is set before anything here imports gRPC. A value of the operator's own stays.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
