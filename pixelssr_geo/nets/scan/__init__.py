"""Selective scans."""
