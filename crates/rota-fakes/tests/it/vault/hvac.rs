//! An independent client of the real product drives the fake: `hvac`.

use rota_fakes::http::Listen;
use rota_fakes::vault::VaultFake;

use crate::python;

#[test]
fn the_python_client_of_the_real_product_finds_what_it_expects() {
    let vault = VaultFake::start(Listen::default()).unwrap();
    let variables = [("VAULT_ADDR", vault.url()), ("VAULT_TOKEN", vault.root_token().to_owned())];
    python::drives("drive_vault.py", &variables.each_ref().map(|(name, text)| (*name, text.as_str())));
}
