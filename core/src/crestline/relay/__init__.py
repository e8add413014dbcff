"""The relay: reaches a server inside a job behind any firewall, by a connection that the job itself opens."""
