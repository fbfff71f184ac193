//! The ways to reach WeCom: gateway trait, instance-protocol client, the simulator.
