"""What is known of Cloud Shell and its token endpoint. Standard library only: the ``token`` command needs no more."""
