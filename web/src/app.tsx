// The page of the dashboard.
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { ApiError, mustSignIn, scopes, session } from "./api";
import { formatAge, formatTime } from "./format";
import { moveInTable } from "./keyboard";
import { connection, follow, heardAt, isCutOff, isStale, lack, now, reconnect } from "./live/store";
import { Approvals } from "./pages/approvals";
import { CampaignPage } from "./pages/campaign";
import { Campaigns } from "./pages/campaigns";
import { DeadLetters } from "./pages/dead_letters";
import { EventPage, Events } from "./pages/events";
import { GraphPage } from "./pages/graph";
import { Help } from "./pages/help";
import { Holds } from "./pages/holds";
import { Inbox } from "./pages/inbox";
import { ObservationPage } from "./pages/observation";
import { Observations } from "./pages/observations";
import { Orders } from "./pages/orders";
import { ProcessingPage } from "./pages/processing";
import { ProductPage } from "./pages/product";
import { Providers } from "./pages/providers";
import { ReportPage } from "./pages/report";
import { Wall } from "./pages/wall";
import { Bar } from "./parts/bar";
import { Palette } from "./parts/palette";
import { go, path, startRouter } from "./router";
import { startSettings } from "./settings";
import "./style.css";

function Current() {
  const [, place, first, second] = path.value.split("/").map(decodeURIComponent);
  switch (place) {
    case "":
    case "observations":
      return first ? <ObservationPage key={first} obsId={first} /> : <Observations />;
    case "processings":
      if (first) return <ProcessingPage key={first} id={first} />;
      break;
    case "inbox":
      return <Inbox />;
    case "approvals":
      return <Approvals />;
    case "holds":
      return <Holds />;
    case "campaigns":
      return first ? <CampaignPage key={first} number={first} /> : <Campaigns />;
    case "events":
      return first ? <EventPage key={first} id={first} /> : <Events />;
    case "dead":
      return <DeadLetters />;
    case "orders":
      return <Orders />;
    case "report":
      return <ReportPage />;
    case "providers":
      return <Providers />;
    case "graph":
      return <GraphPage />;
    case "products":
      if (first && second) {
        return <ProductPage key={`${first} ${second}`} product={first} obsId={second} />;
      }
      break;
    case "help":
      return <Help />;
  }
  return (
    <div class="page">
      <h1>No such page</h1>
      <p>
        {path.value} is not an address of the dashboard. <a href="/observations">Observations</a>
      </p>
    </div>
  );
}

function Staleness() {
  if (!isStale.value || connection.value === "connecting") return null;
  return (
    <div class="banner" role="alert">
      {isCutOff.value ? cutOff() : lacking()}: what is shown is of the past.
    </div>
  );
}

function cutOff(): string {
  const since = heardAt.value ? `, for ${formatAge((now.value - heardAt.value) / 1000)}` : "";
  return `Nothing comes from the dashboard${since}`;
}

function lacking(): string {
  if (!lack.value) return "";
  const { source, problem, t } = lack.value;
  const since = t === null ? "" : ` since ${formatTime(t)} UTC`;
  return `The dashboard hears nothing from ${source}${since} (${problem})`;
}

function SignIn() {
  const [problem, setProblem] = useState<string>();
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const token = new FormData(event.currentTarget as HTMLFormElement).get("token");
    try {
      await session("POST", { token });
      mustSignIn.value = false;
      reconnect();
    } catch (error) {
      setProblem(error instanceof ApiError ? error.message : String(error));
    }
  };
  return (
    <main class="page" style={{ maxWidth: "480px" }}>
      <form class="card stack" onSubmit={submit}>
        <h1>Batuta</h1>
        <label>
          Token of the orchestra, or your own{" "}
          <input name="token" type="password" autocomplete="current-password" required />
        </label>
        {problem && (
          <p class="problem" role="alert">
            {problem}
          </p>
        )}
        <button type="submit" class="main">
          Sign in
        </button>
      </form>
    </main>
  );
}

function App() {
  // When the search was opened: one that is opened while the last one still closes stays open.
  const [search, setSearch] = useState<number>();
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      if (event.defaultPrevented) return;
      if (moveInTable(event)) {
        event.preventDefault();
        return;
      }
      if (/^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName) || event.ctrlKey || event.metaKey)
        return;
      if (event.key === "/") {
        event.preventDefault();
        setSearch(event.timeStamp);
      } else if (event.key === "?") {
        go("/help");
      }
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  useEffect(() => {
    // A dashboard that was started again may let its viewers do something else. Without an answer
    // nothing is offered, until its stream comes again.
    if (connection.value === "live") {
      session("GET").catch(() => {
        scopes.value = [];
      });
    }
    if (connection.value !== "refused") return;
    session("GET").then(
      (state) => {
        if (state.needed && !state.signed_in) mustSignIn.value = true;
        else setTimeout(reconnect, 2000);
      },
      () => setTimeout(reconnect, 2000),
    );
  }, [connection.value]);
  if (mustSignIn.value) return <SignIn />;
  if (path.value === "/wall") {
    return (
      <>
        <Staleness />
        <Wall />
      </>
    );
  }
  return (
    <>
      <Bar />
      {search !== undefined && (
        <Palette
          key={search}
          close={() => setSearch((opened) => (opened === search ? undefined : opened))}
        />
      )}
      <Staleness />
      <main class={isStale.value && connection.value !== "connecting" ? "aged" : ""}>
        <Current />
      </main>
    </>
  );
}

startSettings();
startRouter();
follow();
render(<App />, document.body);
