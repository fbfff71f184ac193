//! The workers on a real Postgres and Kafka, against the simulator.

mod callbacks;
mod crash;
mod dispatch;
mod ingress;
mod login;
mod order;
mod queues;
mod sends;
mod unknown;
mod world;
