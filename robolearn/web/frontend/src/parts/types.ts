// What the server's answers look like; the names are those of robolearn/web/{datasets,annotate,runs}.py.
export type DatasetSummary = {
  name: string;
  problem: string;
  episodes: number;
  steps: number;
  successes: number;
  failures: number;
  tasks: string[];
  robot: string;
  cameras: string[];
  newest_ns: number;
  unfinished: number;
};

export type Row = {
  index: number;
  id: string;
  length: number;
  task: string;
  instruction: string;
  seed: number | null;
  success: boolean | null;
  terminated: boolean;
  truncated: boolean;
  reason: string;
  operator: string;
  created_ns: number;
  tag_names: string[];
  stages: string[];
  annotators: string[];
};

export type Note = { start: number; stop: number; label: string; author: string };

export type EpisodeInfo = Row & {
  tags: Record<string, unknown>;
  annotations: Note[];
  masked: Record<string, number>;
  dropped: Record<string, number>;
  cameras: Record<string, { height: number; width: number }>;
  control_hz: number;
  episodes: number;
  before: string | null;
  after: string | null;
  version: string;
  last_edit: string;
};

export type Curves = { unit: string; names: string[]; values: (number | null)[][] };

export type Series = {
  step: number[];
  time_s: number[];
  fields: Record<string, Curves>;
  streams: Record<string, Curves>;
  columns: Record<string, Curves>;
};

export type Agreement = { authors: string[]; items: number; same: number | null; kappa: number | null };

export type Evaluation = {
  name: string;
  success_rate: number;
  success_ci95: [number, number];
  episodes: number | null;
  task?: string | null;
  return_mean?: number | null;
  mean_episode_steps?: number | null;
};

export type RunSummary = {
  name: string;
  problem: string;
  algorithm: string;
  learns_from: string;
  seed: number | null;
  has_curves: boolean;
  step: number | null;
  wall_s: number | null;
  updated_s: number;
  evaluation: Evaluation | null;
  pages: string[];
  videos: string[];
};
