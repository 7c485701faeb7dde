//! The dashboard, in a real browser.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::json;

use crate::desk::{Desk, Mortal, free_address, line_server, of, one, until};
use crate::operator::{token, with_api};
use crate::servers::{Server, needed};

/// A browser, and the program that drives it.
struct Browser {
    client: Client,
    _driver: Server,
    _profile: tempfile::TempDir,
}

impl Browser {
    async fn open(driver: PathBuf, size: (u32, u32)) -> Self {
        let address = free_address();
        let profile = tempfile::tempdir().unwrap();
        let server = Server::start(Command::new(driver).arg(format!("--port={}", address.port())));
        until("the driver answers", || {
            std::net::TcpStream::connect(address).is_ok()
        });
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-quic".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            format!("--user-data-dir={}", profile.path().display()),
            format!("--window-size={},{}", size.0, size.1),
        ];
        let wishes = json!({
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let connector = hyper_util::client::legacy::connect::HttpConnector::new();
        let client = ClientBuilder::new(connector)
            .capabilities(wishes.as_object().unwrap().clone())
            .connect(&format!("http://{address}"))
            .await
            .unwrap();
        Self {
            client,
            _driver: server,
            _profile: profile,
        }
    }

    /// Shows the token, and sees the dashboard.
    async fn log_in(&self, desk: &Desk, api: std::net::SocketAddr) {
        self.client.goto(&format!("http://{api}/")).await.unwrap();
        let field = Locator::Css("#login:not([hidden]) #token");
        let field = self.client.wait().for_element(field).await.unwrap();
        field.send_keys(&token(desk)).await.unwrap();
        let button = self
            .client
            .find(Locator::Css("#login button"))
            .await
            .unwrap();
        button.click().await.unwrap();
        let main = Locator::Css("#main .summary");
        self.client.wait().for_element(main).await.unwrap();
    }

    async fn text(&self, selector: &str) -> String {
        let code =
            "const one = document.querySelector(arguments[0]); return one ? one.textContent : ''";
        let text = self
            .client
            .execute(code, vec![json!(selector)])
            .await
            .unwrap();
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits for a text.
    async fn sees(&self, selector: &str, wanted: &str) {
        let began = Instant::now();
        loop {
            let text = self.text(selector).await;
            if text.contains(wanted) {
                return;
            }
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "{selector} never has {wanted:?}: {text:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}

#[test]
fn the_page_shows_what_is_down_by_itself_and_its_actions_work() {
    let name = "the_page_shows_what_is_down_by_itself_and_its_actions_work";
    let (Some(driver), Some(_)) = (needed(name, "chromedriver"), needed(name, "chromium")) else {
        return;
    };
    let mut origin = Mortal::born("one");
    let text = one(origin.address()).replace("[[listen]]", "feature = \"checkout\"\n[[listen]]");
    let (desk, api) = with_api(&text);
    desk.wait_for_phase("a", "up");
    run(async {
        let browser = Browser::open(driver, (1280, 1100)).await;
        browser.log_in(&desk, api).await;
        browser.sees(".summary h2", "The origin is up").await;
        // Something that would be gone if the page were loaded again.
        let mark = "window.mark = 'here'";
        browser.client.execute(mark, Vec::new()).await.unwrap();
        origin.kill();
        desk.wait_for_phase("a", "down");
        browser.sees(".summary h2", "a is down").await;
        let trouble = browser.text(".trouble").await;
        for wanted in [
            "connection refused",
            "tried again by its schedule",
            "checkout",
            "clients of a",
        ] {
            assert!(trouble.contains(wanted), "{wanted}: {trouble}");
        }
        browser.sees(".timeline li", "lasts").await;

        // An action asks first, and does nothing when it is left.
        // At once: what is found may be made anew before it is clicked.
        let button = || async {
            let code = "document.querySelector('.trouble button[data-call$=drain]').click()";
            browser.client.execute(code, Vec::new()).await.unwrap();
        };
        button().await;
        let no = browser
            .client
            .find(Locator::Css("#ask button[value=no]"))
            .await;
        no.unwrap().click().await.unwrap();
        assert_eq!(desk.origin("a")["phase"], "down");
        button().await;
        let yes = browser.client.find(Locator::Id("ask-yes")).await;
        yes.unwrap().click().await.unwrap();
        browser.sees("#said", "takes no new work").await;
        desk.wait_for_phase("a", "draining");
        browser.sees(".trouble h3", "a is draining").await;

        origin.revive();
        assert!(desk.command(&["reload"]).status.success());
        let code = "document.querySelector('.trouble button[data-call$=reconnect]').click()";
        browser.client.execute(code, Vec::new()).await.unwrap();
        let yes = browser.client.find(Locator::Id("ask-yes")).await;
        yes.unwrap().click().await.unwrap();
        browser.sees(".summary h2", "The origin is up").await;
        let mark = browser
            .client
            .execute("return window.mark", Vec::new())
            .await;
        assert_eq!(
            mark.unwrap(),
            json!("here"),
            "the page was never loaded again"
        );

        let errors = "return performance.getEntriesByType('resource').filter((one) => !one.name.startsWith(location.origin) && !one.name.startsWith('data:')).map((one) => one.name)";
        let elsewhere = browser.client.execute(errors, Vec::new()).await.unwrap();
        assert_eq!(elsewhere, json!([]), "nothing comes from elsewhere");
        let log = console(&browser.client).await;
        let wrong: Vec<_> = log
            .iter()
            .filter(|line| line["level"] == "SEVERE")
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        browser.client.clone().close().await.unwrap();
    });
}

#[test]
fn new_work_is_sent_to_another_server_from_the_page() {
    let name = "new_work_is_sent_to_another_server_from_the_page";
    let (Some(driver), Some(_)) = (needed(name, "chromedriver"), needed(name, "chromium")) else {
        return;
    };
    let (first, second) = (line_server("one"), line_server("other"));
    let (desk, api) = with_api(&of(&[first, second]));
    desk.wait_for_phase("a", "up");
    run(async {
        let browser = Browser::open(driver, (1280, 1100)).await;
        browser.log_in(&desk, api).await;
        let press = async |words: &str| {
            let code = "[...document.querySelectorAll('button[data-call$=prefer]')]
                        .find(one => one.textContent.trim() === arguments[0]).click()";
            let pressed = browser.client.execute(code, vec![json!(words)]).await;
            pressed.unwrap();
            let yes = browser.client.find(Locator::Css("#ask-yes")).await;
            yes.unwrap().click().await.unwrap();
        };
        browser.sees("button[data-call$=prefer]", "Prefer").await;
        press("Prefer").await;
        browser.sees("#main", "preferred by order").await;
        assert_eq!(desk.origin("a")["preferred"], second.to_string());
        press("As configured").await;
        until("the configuration decides again", || {
            desk.origin("a")["preferred"].is_null()
        });
        browser.client.clone().close().await.unwrap();
    });
}

#[test]
fn what_servers_say_is_text_on_the_page_and_other_names_are_refused() {
    let name = "what_servers_say_is_text_on_the_page_and_other_names_are_refused";
    let (Some(driver), Some(_)) = (needed(name, "chromedriver"), needed(name, "chromium")) else {
        return;
    };
    let (desk, api) = with_api(
        "[origin.\"<img src=x onerror=document.title=1>\"]\naddress = \"127.0.0.1:1\"\nfeature = \"<b>bold</b>\"\n",
    );
    run(async {
        let browser = Browser::open(driver, (390, 844)).await;
        browser.log_in(&desk, api).await;
        browser
            .sees(".summary h2", "<img src=x onerror=document.title=1>")
            .await;
        browser.sees(".trouble", "<b>bold</b>").await;
        let code = "return [document.title, document.querySelectorAll('main img').length, \
                    document.documentElement.scrollWidth <= innerWidth]";
        let found = browser.client.execute(code, Vec::new()).await.unwrap();
        assert_eq!(
            found,
            json!(["ipreconnect", 0, true]),
            "no picture, and no wider than a phone"
        );
        // A name that leads here and is not ours: what a page gets that was made to be of this machine.
        browser
            .client
            .goto(&format!("http://rebound.localhost:{}/", api.port()))
            .await
            .unwrap();
        let text = browser.text("body").await;
        assert!(text.contains("this name does not lead here"), "{text}");
        browser.client.clone().close().await.unwrap();
    });
}

/// What the page has said to the console: chromedriver's own way, which the protocol does not have.
async fn console(client: &Client) -> Vec<serde_json::Value> {
    #[derive(Debug)]
    struct Log;
    impl fantoccini::wd::WebDriverCompatibleCommand for Log {
        fn endpoint(
            &self,
            base: &url::Url,
            session: Option<&str>,
        ) -> Result<url::Url, url::ParseError> {
            base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
        }

        fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
            (
                http::Method::POST,
                Some("{\"type\":\"browser\"}".to_owned()),
            )
        }
    }
    let log = client.issue_cmd(Log).await.unwrap();
    log.as_array().cloned().unwrap_or_default()
}
