"""targetplugin: an iSCSI disk that can take a job back."""

__version__ = "0.1.0"
