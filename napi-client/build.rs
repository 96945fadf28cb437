//! How the addon is linked.

fn main() {
    napi_build::setup();
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // Node unloads an addon with the last environment that used it; the background thread, which
        // runs its code, lives on.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
