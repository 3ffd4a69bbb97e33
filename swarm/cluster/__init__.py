"""The only place that builds Dask clusters and clients, and the processes of the service."""
