//! The program `ipreconnect`.
mod admin;
mod demo;
mod exit;
mod gateway {
    pub(crate) mod board;
}
mod state;

fn main() -> std::process::ExitCode {
    match demo::run(demo::Afterwards::End, demo::Format::Text) {
        Ok(e) => e.into(),
        Err(r) => {
            eprintln!("{r}");
            r.exit().into()
        }
    }
}
