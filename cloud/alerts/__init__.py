"""The function that reads the anomalies stream: it tells driver and fleet of alerts, and keeps the latest one of each."""
