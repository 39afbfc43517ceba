"""The contracts that plugins implement, the hooks that hand them over, and the plugin manager."""
