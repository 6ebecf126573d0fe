"""Deploys and removes the stacks of CloudFormation."""
