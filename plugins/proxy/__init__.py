"""The service proxy: Kubernetes Services as IPVS virtual services."""
