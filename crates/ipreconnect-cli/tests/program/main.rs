//! The program itself, as its users run it: its commands, its signals, and real servers behind it.

mod access;
mod alerts;
mod bad_luck;
mod bandwidth;
mod brought;
mod commands;
mod dashboard;
mod datagrams;
mod desk;
mod doors;
mod forward;
mod health;
mod http;
mod inside;
mod lan;
mod local;
mod log;
mod operator;
mod ports;
mod postgres;
mod reload;
mod resolvers;
mod rules;
mod servers;
mod tap;
mod tls;
