"""The Ansible collection below `ansible/`."""
