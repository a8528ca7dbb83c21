"""The firewall plugin: NetworkPolicy on nftables."""
