# Rota as an ECS service on Fargate. The database, the cluster, the subnets and the
# secrets exist already and come in as variables.

terraform {
  required_version = ">= 1.6"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.60"
    }
  }
}

variable "image" {
  description = "The image of Rota, with its digest"
  type        = string
}

variable "cluster_arn" {
  type = string
}

variable "subnet_ids" {
  description = "Private subnets with a route to the AWS APIs, Slack and the database"
  type        = list(string)
}

variable "security_group_ids" {
  type = list(string)
}

variable "database_url_secret_arn" {
  description = "The secret that holds the connection URL of the state database"
  type        = string
}

variable "slack_webhook_secret_arn" {
  type = string
}

variable "policy_bucket" {
  description = "Where the policy file lies; Fargate has no other place to mount it from"
  type        = string
}

variable "policy_key" {
  type    = string
  default = "rota/policy.toml"
}

variable "managed_secret_arns" {
  description = "The secrets that Rota may rotate, as ARNs or patterns; rota-slots/* comes by itself"
  type        = list(string)
}

variable "managed_service_arns" {
  description = "The ECS services that Rota may roll out"
  type        = list(string)
}

# What follows is for policies that use it. An empty list gives no right.

variable "kms_key_arns" {
  description = "The keys of your own that encrypt these secrets and the daemon's own two"
  type        = list(string)
  default     = []
}

variable "pinned_task_definition_arns" {
  description = "The families of services whose references are pinned: arn:...:task-definition/FAMILY:*"
  type        = list(string)
  default     = []
}

variable "hook_task_definition_arns" {
  description = "The tasks that hooks run: arn:...:task-definition/FAMILY:*"
  type        = list(string)
  default     = []
}

variable "passed_role_arns" {
  description = "The task and execution roles of pinned services and of hooks' tasks"
  type        = list(string)
  default     = []
}

variable "assumed_role_arns" {
  description = "The roles that the policy names with assume_role"
  type        = list(string)
  default     = []
}

variable "rotated_iam_user_arns" {
  description = "The IAM users whose access keys are rotated"
  type        = list(string)
  default     = []
}

variable "cloudwatch_checks" {
  description = "Checks look at alarms and metrics of CloudWatch"
  type        = bool
  default     = false
}

variable "checked_log_group_arns" {
  description = "The log groups in which checks count patterns, each with :* at its end"
  type        = list(string)
  default     = []
}

variable "database_user_arns" {
  description = "Log in at the state database with IAM: arn:...:rds-db:REGION:ACCOUNT:dbuser:RESOURCE/USER"
  type        = list(string)
  default     = []
}

variable "settings" {
  description = "More settings of Rota that are no secrets, by their variable: ROTA__SLACK__STATUS_URL"
  type        = map(string)
  default     = {}
}

variable "replicas" {
  description = "Two: one works while the other takes over within a lease"
  type        = number
  default     = 2
}

data "aws_region" "current" {}
data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  region  = data.aws_region.current.name
  secrets = "arn:${data.aws_partition.current.partition}:secretsmanager:${local.region}:${data.aws_caller_identity.current.account_id}:secret"
  # Where pending values of documents and of new secrets wait.
  slot_arns = ["${local.secrets}:rota-slots/*"]
}

resource "aws_cloudwatch_log_group" "rota" {
  name              = "/rota"
  retention_in_days = 400
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
  }
}

# Starts the task: reads the daemon's own two secrets, writes logs.
resource "aws_iam_role" "execution" {
  name               = "rota-execution"
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

resource "aws_iam_role_policy_attachment" "execution" {
  role       = aws_iam_role.execution.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

data "aws_iam_policy_document" "execution" {
  statement {
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [var.database_url_secret_arn, var.slack_webhook_secret_arn]
  }

  dynamic "statement" {
    for_each = length(var.kms_key_arns) > 0 ? [1] : []
    content {
      actions   = ["kms:Decrypt"]
      resources = var.kms_key_arns
      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = ["secretsmanager.${local.region}.amazonaws.com"]
      }
    }
  }
}

resource "aws_iam_role_policy" "execution" {
  role   = aws_iam_role.execution.name
  policy = data.aws_iam_policy_document.execution.json
}

# What the daemon itself may do.
resource "aws_iam_role" "task" {
  name               = "rota"
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

data "aws_iam_policy_document" "task" {
  statement {
    sid = "Secrets"
    actions = [
      "secretsmanager:CreateSecret",
      "secretsmanager:DescribeSecret",
      "secretsmanager:GetSecretValue",
      "secretsmanager:ListSecretVersionIds",
      "secretsmanager:PutSecretValue",
      "secretsmanager:TagResource",
      "secretsmanager:UpdateSecretVersionStage",
    ]
    resources = concat(var.managed_secret_arns, local.slot_arns)
  }

  dynamic "statement" {
    for_each = length(var.kms_key_arns) > 0 ? [1] : []
    content {
      sid       = "Keys"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      resources = var.kms_key_arns
      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = ["secretsmanager.${local.region}.amazonaws.com"]
      }
    }
  }

  statement {
    sid       = "Rollouts"
    actions   = ["ecs:DescribeServices", "ecs:UpdateService"]
    resources = var.managed_service_arns
  }

  statement {
    sid       = "TasksAreSeen"
    actions   = ["ecs:DescribeTasks", "ecs:ListTasks"]
    resources = ["*"]
  }

  dynamic "statement" {
    for_each = length(var.pinned_task_definition_arns) > 0 ? [1] : []
    content {
      sid       = "PinnedDefinitions"
      actions   = ["ecs:DescribeTaskDefinition", "ecs:RegisterTaskDefinition"]
      resources = ["*"]
    }
  }

  dynamic "statement" {
    for_each = length(var.pinned_task_definition_arns) > 0 ? [1] : []
    content {
      sid       = "PinnedTags"
      actions   = ["ecs:TagResource"]
      resources = var.pinned_task_definition_arns
    }
  }

  dynamic "statement" {
    for_each = length(var.hook_task_definition_arns) > 0 ? [1] : []
    content {
      sid       = "Hooks"
      actions   = ["ecs:RunTask"]
      resources = var.hook_task_definition_arns
    }
  }

  dynamic "statement" {
    for_each = length(var.passed_role_arns) > 0 ? [1] : []
    content {
      sid       = "RolesOfTasks"
      actions   = ["iam:PassRole"]
      resources = var.passed_role_arns
      condition {
        test     = "StringEquals"
        variable = "iam:PassedToService"
        values   = ["ecs-tasks.amazonaws.com"]
      }
    }
  }

  dynamic "statement" {
    for_each = length(var.assumed_role_arns) > 0 ? [1] : []
    content {
      sid       = "OtherRoles"
      actions   = ["sts:AssumeRole"]
      resources = var.assumed_role_arns
    }
  }

  dynamic "statement" {
    for_each = length(var.rotated_iam_user_arns) > 0 ? [1] : []
    content {
      sid       = "AccessKeys"
      actions   = ["iam:CreateAccessKey", "iam:DeleteAccessKey", "iam:ListAccessKeys", "iam:UpdateAccessKey"]
      resources = var.rotated_iam_user_arns
    }
  }

  dynamic "statement" {
    for_each = length(var.rotated_iam_user_arns) > 0 ? [1] : []
    content {
      sid       = "LastUses"
      actions   = ["iam:GetAccessKeyLastUsed"]
      resources = ["*"]
    }
  }

  dynamic "statement" {
    for_each = var.cloudwatch_checks ? [1] : []
    content {
      sid       = "Metrics"
      actions   = ["cloudwatch:DescribeAlarms", "cloudwatch:GetMetricStatistics"]
      resources = ["*"]
    }
  }

  dynamic "statement" {
    for_each = length(var.checked_log_group_arns) > 0 ? [1] : []
    content {
      sid       = "LogPatterns"
      actions   = ["logs:FilterLogEvents"]
      resources = var.checked_log_group_arns
    }
  }

  dynamic "statement" {
    for_each = length(var.database_user_arns) > 0 ? [1] : []
    content {
      sid       = "Database"
      actions   = ["rds-db:connect"]
      resources = var.database_user_arns
    }
  }

  statement {
    sid       = "Policy"
    actions   = ["s3:GetObject"]
    resources = ["arn:${data.aws_partition.current.partition}:s3:::${var.policy_bucket}/${var.policy_key}"]
  }
}

resource "aws_iam_role_policy" "task" {
  role   = aws_iam_role.task.name
  policy = data.aws_iam_policy_document.task.json
}

resource "aws_ecs_task_definition" "rota" {
  family                   = "rota"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 256
  memory                   = 512
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task.arn

  container_definitions = jsonencode([{
    name                   = "rota"
    image                  = var.image
    command                = ["serve"]
    essential              = true
    readonlyRootFilesystem = true
    user                   = "65532:65532"
    stopTimeout            = 60
    linuxParameters        = { initProcessEnabled = false }
    portMappings           = [{ containerPort = 9464, protocol = "tcp" }]
    environment = concat(
      [
        { name = "ROTA__POLICY__SOURCE", value = "s3://${var.policy_bucket}/${var.policy_key}" },
        { name = "ROTA__AWS__REGION", value = local.region },
        { name = "ROTA__DATABASE__RDS_IAM", value = tostring(length(var.database_user_arns) > 0) },
      ],
      [for name, value in var.settings : { name = name, value = value }],
    )
    secrets = [
      { name = "ROTA__DATABASE__URL", valueFrom = var.database_url_secret_arn },
      { name = "ROTA__SLACK__WEBHOOK_URL", valueFrom = var.slack_webhook_secret_arn },
    ]
    # ECS ignores the image's own health check. Alive, not ready: a database that is down is
    # no reason to kill the task.
    healthCheck = {
      command     = ["CMD", "/usr/local/bin/rota", "health", "--live"]
      interval    = 30
      timeout     = 5
      retries     = 3
      startPeriod = 20
    }
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.rota.name
        awslogs-region        = local.region
        awslogs-stream-prefix = "rota"
      }
    }
  }])
}

resource "aws_ecs_service" "rota" {
  name                               = "rota"
  cluster                            = var.cluster_arn
  task_definition                    = aws_ecs_task_definition.rota.arn
  desired_count                      = var.replicas
  launch_type                        = "FARGATE"
  deployment_minimum_healthy_percent = 50
  deployment_maximum_percent         = 200

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.subnet_ids
    security_groups  = var.security_group_ids
    assign_public_ip = false
  }
}

output "task_role_arn" {
  value = aws_iam_role.task.arn
}
