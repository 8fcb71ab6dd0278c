"""What the Azure SDK sees: the credentials, the pipeline, the exceptions, and what is built on them."""
