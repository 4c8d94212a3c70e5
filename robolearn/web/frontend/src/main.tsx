// The frame of every page: navigation by the address's hash, the stop button, signing in.
import { effect, signal } from "@preact/signals";
import { render, type ComponentType } from "preact";
import { useErrorBoundary, useState } from "preact/hooks";
import { signedIn, signIn } from "./api";
import { connect } from "./live/connection";
import { Annotate } from "./pages/annotate";
import { Datasets } from "./pages/datasets";
import { Episode } from "./pages/episode";
import { Live } from "./pages/live";
import { Preferences } from "./pages/preferences";
import { Run } from "./pages/run";
import { Runs } from "./pages/runs";
import { StopBar } from "./live/stop";
import "./style.css";
import "./live/live.css";

export type PageProps = {
  /** What follows the page's name in the address: `#/episode/demos.zarr/7` has ["demos.zarr", "7"], decoded. */
  words: string[];
  /** What follows the `?`. */
  query: URLSearchParams;
};

type Page = { title: string; show: ComponentType<PageProps>; under?: string };

const PAGES: Record<string, Page> = {
  live: { title: "Live", show: Live },
  datasets: { title: "Datasets", show: Datasets },
  episode: { title: "Episode", show: Episode, under: "datasets" },
  annotate: { title: "Annotate", show: Annotate },
  preferences: { title: "Preferences", show: Preferences },
  runs: { title: "Runs", show: Runs },
  run: { title: "Run", show: Run, under: "runs" },
};

const address = signal(location.hash);
addEventListener("hashchange", () => {
  address.value = location.hash;
  document.getElementById("main")?.focus({ preventScroll: true });
});

function App() {
  const [path, query = ""] = address.value.replace(/^#\/?/, "").split("?");
  const [name, ...words] = path.split("/").filter(Boolean).map(decoded);
  const key = name in PAGES ? name : "live";
  const page = PAGES[key];
  document.title = `${page.title} - robolearn`;
  return (
    <>
      <a class="skip" href="#main" onClick={(e) => (e.preventDefault(), document.getElementById("main")?.focus())}>
        Skip to the page
      </a>
      <header class="bar">
        <a class="brand" href="#/live" aria-label="robolearn, live">
          <img src="./icon.svg" alt="" width="26" height="26" />
          <span aria-hidden="true">robolearn</span>
        </a>
        <nav aria-label="Pages">
          {Object.entries(PAGES).map(
            ([id, { title, under }]) =>
              !under && (
                <a key={id} href={`#/${id}`} aria-current={id === (page.under ?? key) ? "page" : undefined}>
                  {title}
                </a>
              ),
          )}
        </nav>
        <StopBar />
      </header>
      <main id="main" tabIndex={-1}>
        {signedIn.value === false ? <SignIn /> : signedIn.value && <Guarded key={path} page={page} words={words} query={new URLSearchParams(query)} />}
      </main>
    </>
  );
}

/** A word of an address as it was meant; one that somebody typed with a bare `%` as it stands. */
function decoded(word: string): string {
  try {
    return decodeURIComponent(word);
  } catch {
    return word;
  }
}

/** A page that breaks takes neither the stop button nor the way to the others with it. */
function Guarded({ page, ...props }: PageProps & { page: Page }) {
  const [broken] = useErrorBoundary();
  if (!broken) return <page.show {...props} />;
  return (
    <p class="card problem" role="alert">
      This page broke: {String(broken)}. Load it again.
    </p>
  );
}

function SignIn() {
  const [problem, setProblem] = useState("");
  const onSubmit = (event: Event) => {
    event.preventDefault();
    const token = new FormData(event.target as HTMLFormElement).get("token") as string;
    signIn(token.trim()).catch((error: Error) => setProblem(error.message));
  };
  return (
    <form class="card narrow" onSubmit={onSubmit}>
      <h1>Who is there?</h1>
      <p>Open the link that `robolearn web` has printed, or type its token.</p>
      <label>
        Token <input name="token" type="password" autocomplete="current-password" required />
      </label>
      <button class="primary">Sign in</button>
      {problem && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
    </form>
  );
}

const token = /^#token=(.+)$/.exec(location.hash)?.[1] ?? null;
if (token) history.replaceState(null, "", "#/live");
address.value = location.hash;
effect(() => {
  if (signedIn.value) void connect();
});
signIn(token).catch(() => (signedIn.value = false));
render(<App />, document.getElementById("app")!);
